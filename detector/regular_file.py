"""Reading a file that somebody names: a regular one, of bounded size; never a pipe that hangs or an endless device."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from detector.errors import UserError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path, what: str) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; whatever else is under that name is not waited for.

    Args:
        path: the file.
        what: what it should be, for messages: "weights", "config".

    Raises:
        UserError: it is not there, cannot be read, or is a folder, a pipe, a socket or a device.
    """
    try:
        # A pipe without a writer would block, also where it took the file's place a moment ago.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a null character, or a path of half a character
        reason = getattr(error, "strerror", None) or error
        if _is_special(path):  # a socket cannot be opened, a folder not everywhere
            mode = path.stat().st_mode
        else:
            raise UserError(f"{path}: cannot read the {what} ({reason}); check the path.") from None
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    raise UserError(f"{path}: is {kind} and not a file; give the {what} file.")


def read_regular(path: Path, what: str, most_bytes: int) -> bytes:
    """All bytes of a regular file.

    Raises:
        UserError: as `open_regular`, or there are more than `most_bytes`.
    """
    with open_regular(path, what) as file:
        try:
            data = file.read(most_bytes + 1)
        except OSError as error:
            raise UserError(f"{path}: cannot read the {what} ({error.strerror or error}).") from None
    if len(data) > most_bytes:
        raise UserError(f"{path}: more than {most_bytes} bytes are too many for a {what}.")
    return data


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False
