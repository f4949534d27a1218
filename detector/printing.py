"""Text from files made safe for screens and logs: class names, file names and tensor names may hold anything."""

import logging
import sys
import unicodedata
from typing import TextIO


def printable(text: object, limit: int | None = None) -> str:
    r"""The text on one line, with everything that a terminal could obey written as an escape such as `\x1b`.

    Escaped is what Python does not call printable: control characters (C0, C1, delete), line and paragraph separators
    (U+2028, U+2029), invisible and bidirectional formatting, lone surrogates, unassigned code points, and spaces other
    than the plain one. Letters, marks, digits and symbols of every script stay as they are.

    Args:
        text: a name, or anything whose `str` is to be shown.
        limit: the most characters to show; what is longer is cut and ends with `…`. None shows it whole.
    """
    line = str(text)
    cut = limit is not None and len(line) > limit
    if cut:
        line = line[:limit]
    if not line.isprintable():
        line = "".join(map(_escape, line))
    return line + "…" if cut else line


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def columns_of(text: str) -> int:
    """How many columns a printable text takes on a terminal: Chinese, Japanese and Korean characters take two."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def pad(text: str, columns: int) -> str:
    """The text with spaces behind it, up to so many columns of a terminal."""
    return text + " " * (columns - columns_of(text))


class PrintableFormatter(logging.Formatter):
    """Formats log records so that no name inside one can forge another record or command a terminal.

    Every line is made `printable`. Lines after the first, which tables and tracebacks have, are indented: what begins
    in the first column was written by this program.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; the base class's, made safe."""
        return "\n    ".join(printable(line) for line in super().format(record).split("\n"))


def log_to_screen(stream: TextIO | None = None) -> None:
    """Show what the package logs, warnings and information, as plain lines.

    Args:
        stream: standard error where it is not given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
