import pickle

import pytest

from detector.errors import UserError, one_line, shown


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    error = UserError("a\nb\x1b[31m.jpg: ü is fine, \ud800 is not.")
    assert str(error) == r"a\nb\x1b[31m.jpg: ü is fine, \ud800 is not."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(UserError("unchanged\\n")) == "unchanged\\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("3", "'3'"),
        (None, "None"),
        ([1, "a", None], "[1, 'a', None]"),
        ({"a": [1]}, "{'a': [1]}"),
        ("a\nb", r"'a\nb'"),
    ],
)
def test_short_values_are_shown_whole(value: object, text: str) -> None:
    assert shown(value) == text


def test_values_of_any_size_are_shown_shortly() -> None:
    bomb: list[object] = ["x"] * 10
    for _ in range(30):
        bomb = [bomb] * 10
    circle: list[object] = []
    circle.append(circle)
    for value in (bomb, circle, "x" * 10**6, list(range(10**6)), 2**100_000, {i: i for i in range(10**5)}):
        assert 0 < len(shown(value)) < 130


def test_one_line() -> None:
    assert one_line("a\nb\tc") == "a b c"
    assert one_line("x" * 300) == "x" * 200 + "…"
