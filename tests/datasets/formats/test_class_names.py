from pathlib import Path

import pytest

from detector.datasets.formats.class_names import find_class_file, read_classes
from detector.errors import UserError


def names(tmp_path: Path, text: str, file: str = "data.yaml") -> list[str]:
    path = tmp_path / file
    path.write_text(text)
    return read_classes(path)[0].names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [yes, no]", ["yes", "no"]),
        ("names: [010, 1.10, 1.1, 12:30]", ["010", "1.10", "1.1", "12:30"]),
        ("names: [1e3, 0x1F, 2001-01-01]", ["1e3", "0x1F", "2001-01-01"]),
        ("names: [on, Off, TRUE, null, .inf, '~x']", ["on", "Off", "TRUE", "null", ".inf", "~x"]),
        ('names: ["yes", \'no\', "a: b"]', ["yes", "no", "a: b"]),
        ("names:\n  0: a\n  1: b\n", ["a", "b"]),
        ('names:\n  "0": a\n  "1": b\n', ["a", "b"]),
        ("names: {1: b, 0: a}", ["a", "b"]),
        ("names:\n- stop sign\n- 'it''s'\nnc: 2\n", ["stop sign", "it's"]),
        ("nc: 1\nnames: ['ünï']", ["ünï"]),
    ],
)
def test_names_are_as_they_are_written(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert names(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: {1: a, 2: b}", "the class numbers of names start at 1, and the files count from 0"),
        ('names: {"1": a, "2": b}', "the class numbers of names start at 1"),
        ("names: {0: a, 2: b}", "the class numbers of names go up to 2 without 1"),
        ("names: {0: a, 0: b}", "'0' is there twice"),
        ('names: {0: a, "00": b}', "names has a class number twice"),
        ("names: {cat: 0, dog: 1}", "names has the key 'cat', which is not a class number; it maps names to numbers"),
        ("names: {cat: x}", "names has the key 'cat', which is not a class number; list them as names"),
        ("names: {-1: a, 0: b}", "names has the key '-1', which is not a class number"),
        ("names:", "names is '', not a list of class names"),
        ("names: null", "names is 'null', not a list"),
        ("names: cat, dog", "names is 'cat, dog', not a list"),
        ("names: []", "has no class names"),
        ("names: {}", "has no class names"),
        ("names: [a, ]\nnc: 2", "nc is '2', but it has 1 names"),
        ("names:\n- a\n-\n- b", "class 1 has no name"),
        ("names: [a, ~]", "class 1 has no name"),
        ("names: [a, [b]]", "the name of class 1 is a list or mapping, not text"),
        ("names: [{name: a}]", "the name of class 0 is a list or mapping"),
        ("{[a]: 1, names: [x]}", "a key is a list or mapping"),
        ("classes: [a]", "has no class names; list them as names"),
        ("- a\n- b", "has no class names"),
        ("names: [a]\ntrain: lists/train.txt", "its train split is a list of pictures; give lists/train.txt itself"),
        ("names: [a]\nkpt_shape: 17", r"kpt_shape must be \[points, 2\] or \[points, 3\]"),
        ("names: [a]\nkpt_shape: [17, 4]", "kpt_shape must be"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"data\.yaml: {message}") as caught:
        names(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_keypoint_shapes(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    for text, expected in (("[17, 3]", (17, 3)), ("[2, 2]", (2, 2)), ("null", (0, 0)), ("", (0, 0))):
        path.write_text(f"names: [a]\nkpt_shape: {text}\n")
        assert read_classes(path)[1] == expected
    path.write_text("names: [a]")
    assert read_classes(path)[1] is None


def test_lists_of_names_part_at_line_ends_alone(tmp_path: Path) -> None:
    assert names(tmp_path, "a\u2028b\n\n c\x85d \r\ne\x0cf", "obj.names") == ["a\u2028b", "c\x85d", "e\x0cf"]
    with pytest.raises(UserError, match=r"classes\.txt: has no class names; write one per line"):
        names(tmp_path, "\n \n", "classes.txt")


def test_the_nearest_file_is_taken(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "labels"
    deep.mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [far]")
    assert find_class_file(deep) == tmp_path / "data.yaml"
    (tmp_path / "a/classes.txt").write_text("near")
    assert find_class_file(deep) == tmp_path / "a/classes.txt"
    assert find_class_file(tmp_path / "data.yaml") == tmp_path / "data.yaml"
