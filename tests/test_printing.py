import io
import logging
import sys
import unicodedata

import pytest

from detector.printing import PrintableFormatter, columns_of, log_to_screen, pad, printable

HOSTILE = {
    "escape": ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
    "line break": ("cat\n2026-01-01 00:00:00 finished", r"cat\n2026-01-01 00:00:00 finished"),
    "carriage return": ("cat\rdog", r"cat\rdog"),
    "C1 control": ("\x9b31mred\x85", r"\x9b31mred\x85"),
    "separators": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "bidirectional": ("\u202egpj.exe\u202c\u2066x\u2069\u200f", r"\u202egpj.exe\u202c\u2066x\u2069\u200f"),
    "invisible": ("a\u200bb\ufeffc\u00ad", r"a\u200bb\ufeffc\xad"),
    "lone surrogate": ("\ud800x", r"\ud800x"),
    "delete and backspace": ("a\x7fb\x08", r"a\x7fb\x08"),
    "tag characters": ("\U000e0041", r"\U000e0041"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_terminal_could_obey_is_escaped(kind: str) -> None:
    text, expected = HOSTILE[kind]
    assert printable(text) == expected


@pytest.mark.parametrize("name", ["person", "Straßenbahn", "汽车", "кот", "सेब", "🐈", "é", "a b", "100 %", ""])
def test_names_of_all_scripts_stay_as_they_are(name: str) -> None:
    assert printable(name) == name


def test_nothing_that_is_not_printable_passes() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    line = printable(everything)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in line)


def test_long_names_are_cut_before_they_are_escaped() -> None:
    assert printable("x" * 10, limit=10) == "x" * 10
    assert printable("x" * 11, limit=10) == "x" * 10 + "…"
    assert printable("\x00" * 10**7, limit=3) == r"\x00\x00\x00…"


def test_anything_with_a_text_can_be_shown() -> None:
    assert printable(ValueError("a\nb")) == r"a\nb"


@pytest.fixture
def record() -> logging.LogRecord:
    message = "class %s"
    return logging.LogRecord("detector", logging.INFO, __file__, 1, message, ("cat\n\x1b[31m2026 done",), None)


def test_a_name_cannot_forge_a_log_line(record: logging.LogRecord) -> None:
    lines = PrintableFormatter("NOW %(message)s").format(record).splitlines()
    assert [line for line in lines if not line.startswith("    ")] == ["NOW class cat"]
    assert lines[1] == r"    \x1b[31m2026 done"


def test_tables_and_tracebacks_keep_their_lines() -> None:
    try:
        raise ValueError("bad\x1b")
    except ValueError:
        record = logging.LogRecord("detector", logging.ERROR, __file__, 1, "a\n| 1 | 2 |", (), sys.exc_info())
    lines = PrintableFormatter("%(message)s").format(record).splitlines()
    assert lines[:2] == ["a", "    | 1 | 2 |"]
    assert lines[-1] == r"    ValueError: bad\x1b"


def test_what_is_logged_reaches_the_screen_escaped() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        stream = io.StringIO()
        log_to_screen(stream)
        logging.getLogger("detector.weights").info("%s: 3 tensors", "a\x1b[1m.pth")
        logging.getLogger("detector.weights").debug("not this")
        assert stream.getvalue() == "a\\x1b[1m.pth: 3 tensors\n"
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_columns_on_a_terminal() -> None:
    assert columns_of("猫 cat") == 6
    assert columns_of("e\u0301") == 1  # an accent of its own takes no column
    assert pad("猫", 5) == "猫   "
    assert pad("long", 2) == "long"
