"""A file whose readers cannot be made to allocate what a hostile file merely claims."""

from typing import BinaryIO

MAX_OBJECT_BYTES = 2**29  # the largest single array of any ResNet or VGG detector is smaller
MAX_LINE_BYTES = 2**20


class TooLargeError(ValueError):
    """A file claims an object that no weights hold."""


class BoundedReader:
    """Reads of an open file, none of which asks for more bytes than are left, nor for more than weights can need."""

    def __init__(self, file: BinaryIO) -> None:
        position = file.tell()
        self.size = file.seek(0, 2)
        file.seek(position)
        self._file = file

    def tell(self) -> int:
        """The position in the file, in bytes."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position and return it, as a file's `seek` does."""
        return self._file.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes. Raises TooLargeError where so many are there and are too many for one object."""
        left = max(self.size - self.tell(), 0)
        wanted = left if count < 0 else min(count, left)
        if wanted > MAX_OBJECT_BYTES:
            raise TooLargeError(f"one object of {wanted} bytes")
        return self._file.read(wanted)

    def readline(self) -> bytes:
        """Read a line with its end. Raises TooLargeError for one that goes on and on."""
        line = self._file.readline(MAX_LINE_BYTES)
        if len(line) == MAX_LINE_BYTES:
            raise TooLargeError(f"a line of more than {MAX_LINE_BYTES} bytes")
        return line
