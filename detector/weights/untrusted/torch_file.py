"""Read what torch.save wrote, without trusting it: tensors and plain containers only, and no more bytes than it has."""

import io
import re
import warnings
import zipfile
from typing import Any

import torch

from detector.errors import UserError, one_line

ZIP_MAGIC = b"PK\x03\x04"
# The first pickle of a torch.save file older than PyTorch 1.6: the number 0x1950a86a20f9469cfc6c.
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_BLOCKED = re.compile(r"GLOBAL ([\w.]+)")


def is_torch_file(data: bytes) -> bool:
    """Whether a file begins like one of torch.save's two formats."""
    return data.startswith((ZIP_MAGIC, LEGACY_MAGIC))


def read_torch_file(data: bytes, source: str) -> Any:
    """Load onto the CPU with `weights_only=True`; there is no fallback to anything laxer.

    Args:
        data: the file's bytes.
        source: the file's name, for messages.

    Raises:
        UserError: one sentence saying what the file wanted besides tensors, or how it is damaged.
    """
    if data.startswith(ZIP_MAGIC):
        _check_sizes(data, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickle protocols; what matters here is an exception
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged or hostile file can raise nearly anything inside torch.load; none of it is our own failure.
        blocked = _BLOCKED.search(str(error))
        if blocked is not None:
            wanted = one_line(blocked[1])
            raise UserError(
                f"{source}: refused, it wants {wanted}, and weights are tensors in plain containers; nothing of it was "
                "executed."
            ) from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = one_line(f"{type(error).__name__} {lines[0] if lines else ''}".split(". ")[0].strip(" ."))
        raise UserError(
            f"{source}: not a complete file of torch.save ({reason}), it is damaged or cut short; "
            "copy or download it again."
        ) from None


def _check_sizes(data: bytes, source: str) -> None:
    """Refuse archives that would unpack to more than they hold: torch.save never compresses."""
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise UserError(
            f"{source}: not a complete file of torch.save ({one_line(error)}), it is damaged or cut short; "
            "copy or download it again."
        ) from None
    compressed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
    if compressed or sum(e.file_size for e in entries) > len(data):
        claimed = sum(e.file_size for e in entries)
        raise UserError(
            f"{source}: refused, its {len(data)} bytes would unpack to {claimed}, and torch.save does not compress."
        )
