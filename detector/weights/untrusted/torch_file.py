"""Read what torch.save wrote, without trusting it: tensors and plain containers only, and no more bytes than it has."""

import io
import re
import warnings
import zipfile
from typing import Any, BinaryIO

import torch

from detector.errors import UserError, one_line
from detector.weights.untrusted.bounded_reader import BoundedReader
from detector.weights.untrusted.file_kind import refuse_other_archive
from detector.weights.untrusted.pickle_scan import TooLongError, scan_pickle

ZIP_MAGIC = b"PK\x03\x04"
# The first pickle of a torch.save file older than PyTorch 1.6: the number 0x1950a86a20f9469cfc6c.
LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5
# Names and shapes, the numbers being beside it; and, in a file of mmengine's Runner, the history of every loss.
MAX_PICKLE_BYTES = 2**28
MAX_DIRECTORY_BYTES = 2**24
_BLOCKED = re.compile(r"GLOBAL ([\w.]+)")
_UNKNOWN_INSTRUCTION = re.compile(r"Unsupported operand (\d+)")  # of a pickle protocol that weights_only does not read


class RefusedTorchFile(UserError):  # noqa: N818 (a refusal, which need not be an error of ours or the file's)
    """The file wants more than tensors and plain containers. Nothing of it was executed."""


def refusal(source: str, wanted: str) -> RefusedTorchFile:
    """The error for a file that wants `wanted`, a name such as `os.system`."""
    return RefusedTorchFile(
        f"{source}: refused, it wants {one_line(wanted)}, and weights are tensors in plain containers (a model's "
        "state_dict()); nothing of it was executed."
    )


def is_torch_file(data: bytes) -> bool:
    """Whether a file begins like one of torch.save's two formats."""
    return data.startswith((ZIP_MAGIC, LEGACY_MAGIC))


def read_torch_file(file: BinaryIO, source: str) -> Any:
    """Load onto the CPU with `weights_only=True`.

    Args:
        file: open, at its beginning.
        source: the file's name, for messages.

    Raises:
        UserError: one sentence saying what the file wanted besides tensors (`RefusedTorchFile`), or how it is damaged.
    """
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    file.seek(0)
    try:
        _scan_archive(file, source) if is_zip else scan_legacy(file)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickle protocols; what matters here is an exception
            return torch.load(file, map_location="cpu", weights_only=True)
    except (UserError, TooLongError) as error:
        raise (error if isinstance(error, UserError) else UserError(f"{source}: refused, {error}.")) from None
    except Exception as error:
        # A damaged or hostile file can raise nearly anything inside torch.load; none of it is our own failure.
        blocked = _BLOCKED.search(str(error))
        if blocked is not None:
            raise refusal(source, blocked[1]) from None
        unknown = _UNKNOWN_INSTRUCTION.search(str(error))
        if unknown is not None:
            raise RefusedTorchFile(
                f"{source}: refused, its pickle has an instruction ({unknown[1]}) that torch's weights_only does not "
                "know; save it with torch.save's own pickle_protocol, or copy it again if it is damaged."
            ) from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = one_line(f"{type(error).__name__} {lines[0] if lines else ''}".split(". ")[0].strip(" ."))
        raise UserError(
            f"{source}: not a complete file of torch.save ({reason}), it is damaged or cut short; "
            "copy or download it again."
        ) from None


def _scan_archive(file: BinaryIO, source: str) -> None:
    """Refuse archives that would unpack to more than they hold, for torch.save never compresses; scan their pickle."""
    # The list of entries is read at one go: this bounds it, and with it the time that it takes.
    archive = zipfile.ZipFile(_Directory(file))
    entries = archive.infolist()
    refuse_other_archive(entries, source)
    size = file.seek(0, 2)
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise UserError(
            f"{source}: refused, its {size} bytes would unpack to {claimed}, and torch.save does not compress."
        )
    for entry in entries:
        if entry.filename.endswith(("/data.pkl", "/constants.pkl")):
            if entry.file_size > MAX_PICKLE_BYTES:
                raise UserError(f"{source}: refused, {entry.file_size} bytes are too many for the names of weights.")
            scan_pickle(BoundedReader(io.BytesIO(archive.read(entry))))


def scan_legacy(file: BinaryIO) -> None:
    """Scan the pickles of a file older than PyTorch 1.6: magic number, version, system, content, names of the storages.

    Raises:
        TooLongError, ValueError, …: as `scan_pickle`.
    """
    reader = BoundedReader(file)
    for _ in range(LEGACY_PICKLES):
        scan_pickle(reader)


class _Directory(BoundedReader):
    """An archive whose list of entries is of bounded length."""

    def read(self, count: int = -1) -> bytes:
        """Read as the base class does; raises TooLongError for a list of entries that is too long."""
        if count > MAX_DIRECTORY_BYTES:
            raise TooLongError("its list of entries is too long for weights")
        return super().read(count)

    def seekable(self) -> bool:
        """True: `zipfile` wants to know."""
        return True
