"""Text files of annotations, read whole, with a limit."""

import codecs
import stat
from pathlib import Path

from detector.errors import UserError

# A label file of this size has millions of objects; one that is larger is something else.
MOST_BYTES = 2**26
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_bytes(path: Path, what: str = "file") -> bytes:
    """A file's bytes. Raises UserError where it is missing, no regular file, or larger than `MOST_BYTES`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: is a folder, pipe or device, not a file. Check the path.")
        if status.st_size > MOST_BYTES:
            raise UserError(
                f"{path}: has {status.st_size} bytes, more than the {MOST_BYTES} of any {what}. Is it the right file?"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot read the {what} ({reason}). Check the path.") from None


def read_text(path: Path, what: str = "file") -> str:
    """A text file's contents: UTF-8, or UTF-16 by its mark, which PowerShell writes.

    Raises:
        UserError: as `read_bytes` does, and where it is no such text.
    """
    try:
        return decode(read_bytes(path, what))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot read the {what}, which is not UTF-8 text ({error.reason}). Save it as UTF-8."
        ) from None


def decode(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 where it begins with the mark of that. Raises UnicodeDecodeError for other text."""
    return data.decode("utf-16" if data.startswith(UTF16) else "utf-8-sig")


def lines_of(text: str) -> list[str]:
    r"""The lines of a text, which end with \n or \r\n alone: names may hold the other characters Python parts at."""
    return [line.removesuffix("\r") for line in text.split("\n")]
