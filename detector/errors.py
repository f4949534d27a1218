"""The one exception for what a user must fix, and how what a file holds is quoted in its message."""

import reprlib

from detector.printing import printable


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what, where, and the remedy, without a traceback.

    It is one line, whatever it quotes: line breaks and control characters of names and values are written as escapes.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message))


def one_line(text: object, limit: int = 200) -> str:
    """What a hostile file gets to say in a message: one line, without control characters, of bounded length."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"


def shown(value: object) -> str:
    """A value of a file as a message quotes it: text in quotes, a container with the first of what it holds.

    Bounded in time and length whatever the value is: a few lines of YAML can stand for lists of 10⁹ words.
    """
    brief = reprlib.Repr()
    brief.maxlevel = 3
    brief.maxstring = 80
    try:
        return one_line(brief.repr(value), limit=120)
    except ValueError:  # of a whole number that has too many digits for Python to write
        return "a number of too many digits"
