"""Read safetensors files: first names and shapes, from a header of bounded size, and tensors when they are wanted."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from detector.errors import UserError, one_line
from detector.printing import printable
from detector.regular_file import open_regular

# Names, shapes and metadata of the largest detector take a hundredth of this.
MAX_HEADER_BYTES = 8 * 2**20
NUMERIC_TYPES = frozenset({"BF16", "F16", "F32", "F64", "I64"})


@dataclass(frozen=True)
class OpenSafetensors:
    """An open file. metadata: texts. shapes: tensor name → shape, as the header says and the file's size confirms."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    _file: Any

    def tensors(self) -> dict[str, Tensor]:
        """Read all tensors onto the CPU, by name; shapes are those of `shapes`."""
        return {name: self._file.get_tensor(name) for name in self.shapes}


def read_metadata(path: Path) -> dict[str, str]:
    """The texts of a safetensors file; of its tensors nothing is looked at. Raises UserError as `open_safetensors`."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def open_safetensors(path: Path) -> Iterator[OpenSafetensors]:
    """Open a safetensors file; nothing but its header is read yet.

    Raises:
        UserError: no regular file, or not a complete one of safetensors; also of what is read inside of the `with`.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        for name, one in slices.items():
            if one.get_dtype() not in NUMERIC_TYPES:
                raise UserError(f"{path}: {printable(name, 80)} is of type {one.get_dtype()}; weights are numbers.")
        shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
        yield OpenSafetensors(dict(file.metadata() or {}), shapes, file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        _check_header_length(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise UserError(_incomplete(path, one_line(error))) from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the weights ({error.strerror or error}).") from None


def _check_header_length(path: Path) -> None:
    with open_regular(path, "weights") as file:
        beginning = file.read(8)
        if len(beginning) < 8:
            raise UserError(_incomplete(path, f"{len(beginning)} bytes" if beginning else "the file is empty"))
        (length,) = struct.unpack("<Q", beginning)
        size = file.seek(0, 2)
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise UserError(_incomplete(path, f"its header claims {length} of {size} bytes"))


def _incomplete(path: Path, reason: str) -> str:
    return f"{path}: not a complete safetensors file ({reason}); copy or download it again, or use another checkpoint."
