"""Training checkpoints that hold more than tensors: arguments, paths, numbers of numpy, a Runner's logger and hooks.

Their weights and, of mmengine's Runner and mmdetection 2.x, their `meta` are read, and nothing else: of the logger, the
optimizer and the hooks not even the numbers. No name of the file is imported (`inert_unpickle`).
"""

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import torch
from torch import Tensor

from detector.errors import UserError, one_line, shown
from detector.weights.untrusted.bounded_reader import BoundedReader
from detector.weights.untrusted.inert_unpickle import InertUnpickler, StorageRecord, TensorRecord
from detector.weights.untrusted.torch_file import ZIP_MAGIC, refusal
from detector.weights.untrusted.within import weights_of

WEIGHTS, META = "state_dict", "meta"
MAX_DIMENSIONS = 8
# Names of plain data that programs store beside the weights: modules, of which everything goes, and single names.
DATA_MODULES = (
    *("addict", "argparse", "collections", "datetime", "easydict", "pathlib", "uuid"),
    *("detectron2.config", "fvcore.common.config", "omegaconf", "yacs"),
)
DATA_NAMES = frozenset(
    {
        "_codecs.encode",
        "numpy.dtype",
        "numpy.ndarray",
        "torch.Size",
        "torch.device",
        "types.SimpleNamespace",
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("complex", "frozenset", "set")),
        *(f"{module}.utilities.data.AttributeDict" for module in ("lightning.fabric", "lightning_fabric")),
    }
)


@dataclass(frozen=True)
class RunnerFile:
    """What such a file holds that is of use.

    state_dict: values as they are in the file, every tensor on the CPU. meta: keys → plain values, or placeholders.
    left_out: names, as `mmengine.logging.history_buffer.HistoryBuffer`, of what was not read.
    """

    state_dict: dict[Any, Any]
    meta: Mapping[Any, Any]
    left_out: tuple[str, ...]


def read_runner_file(file: BinaryIO, source: str) -> RunnerFile | None:
    """Read a file of torch.save that `torch_file` refused; None where it is no such checkpoint.

    Such checkpoints are mmengine's and mmdetection's, with whatever objects; of other programs those that hold plain
    data of Python's and numpy's own types beside tensors.

    Args:
        file: open, at its beginning; `torch_file` has looked through it.
        source: the file's name, for messages.

    Raises:
        UserError: one sentence: it is damaged, or wants more than data, or a tensor claims other numbers than the file
            has.
    """
    reader = BoundedReader(file)
    try:
        is_zip = reader.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        reader.seek(0)
        content, left_out, numbers = _open_archive(file) if is_zip else open_legacy(reader)
        if not isinstance(content, Mapping):
            return None
        state, meta = content.get(WEIGHTS), content.get(META)
        if not isinstance(state, Mapping) or not isinstance(meta, Mapping):
            wanted = [name for name in left_out if not _is_data(name)]
            if wanted:
                raise refusal(source, wanted[0])
            state, meta = weights_of(content, source), {}
        tensors = {k: numbers.tensor(v) if isinstance(v, TensorRecord) else v for k, v in state.items()}
        return RunnerFile(tensors, meta, left_out)
    except UserError:
        raise
    except _WrongTensorError as error:
        raise UserError(f"{source}: refused, {error}.") from None
    except Exception as error:
        # A damaged or hostile stream can raise nearly anything from the interpreter; none of it is our own failure.
        raise UserError(
            f"{source}: not a complete training checkpoint ({one_line(f'{type(error).__name__} {error}')}), it is "
            "damaged or cut short; copy or download it again."
        ) from None


def _is_data(name: str) -> bool:
    """Whether a name in a checkpoint stands for plain data."""
    return name in DATA_NAMES or name.startswith(tuple(f"{module}." for module in DATA_MODULES))


class _WrongTensorError(ValueError):
    """A tensor is not what the file has numbers for. The message is a clause about it."""


class Numbers:
    """The numbers of a file, by key. A subclass says where they lie."""

    def __init__(self) -> None:
        self._read: dict[str, Tensor] = {}

    def tensor(self, record: TensorRecord) -> Tensor:
        """The tensor of a record, sharing memory with others of its storage."""
        storage = record.storage
        if storage.key not in self._read:
            self._read[storage.key] = self._values(storage)
        values = self._read[storage.key]
        if not _fits(record, values.numel()):
            raise _WrongTensorError(
                f"a tensor of shape {shown(record.shape)} and strides {shown(record.strides)} does not lie within its "
                f"{values.numel()} numbers"
            )
        return torch.as_strided(values, record.shape, record.strides, record.offset)

    def _values(self, storage: StorageRecord) -> Tensor:
        dtype: torch.dtype = getattr(torch, storage.type_name)
        data = self._bytes(storage.key, storage.count * dtype.itemsize)
        if len(data) != storage.count * dtype.itemsize:
            raise _WrongTensorError(f"storage {shown(storage.key)} claims other than the {len(data)} bytes it has")
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)

    def _bytes(self, key: str, count: int) -> bytes:
        raise NotImplementedError


def _fits(record: TensorRecord, count: int) -> bool:
    """Whether a claimed tensor lies within `count` numbers."""
    shape, strides, offset = record.shape, record.strides, record.offset
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MAX_DIMENSIONS):
        return False
    if any(type(number) is not int or number < 0 for number in (*shape, *strides, offset)):
        return False
    if prod(shape) == 0:
        return offset <= count
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return bool(last < count)


class _ArchivedNumbers(Numbers):
    """The numbers of a zip archive: one entry for each storage."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__()
        self._archive, self._root = archive, root

    def _bytes(self, key: str, count: int) -> bytes:
        del count
        return self._archive.read(f"{self._root}data/{key}")


class _NumbersInARow(Numbers):
    """The numbers of a file older than PyTorch 1.6: one storage after the other, behind the pickles."""

    def __init__(self, reader: BoundedReader, places: Mapping[str, int]) -> None:
        super().__init__()
        self._reader, self._places = reader, places

    def _bytes(self, key: str, count: int) -> bytes:
        self._reader.seek(self._places[key])
        return self._reader.read(count)


def _open_archive(file: BinaryIO) -> tuple[Any, tuple[str, ...], Numbers]:
    archive = zipfile.ZipFile(file)
    (entry,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    root = entry.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise _WrongTensorError("its numbers are in big-endian order; save it again on a usual machine")
    with archive.open(entry) as pickled:
        interpreter = InertUnpickler(BoundedReader(pickled))  # type: ignore[arg-type]
        return interpreter.load(), tuple(sorted(interpreter.left_out)), _ArchivedNumbers(archive, root)


def open_legacy(reader: BoundedReader) -> tuple[Any, tuple[str, ...], Numbers]:
    """Content of a file older than PyTorch 1.6, names it leaves out, its numbers; damage raises nearly anything."""
    for _ in range(3):  # the magic number, the version, the system
        InertUnpickler(reader).load()
    interpreter = InertUnpickler(reader)
    content = interpreter.load()
    keys = InertUnpickler(reader).load()
    if not isinstance(keys, list):
        raise TypeError("it does not say which storages follow")
    places: dict[str, int] = {}
    for key in keys:
        storage = interpreter.storages[key]
        (count,) = struct.unpack("<q", reader.read(8))
        dtype: torch.dtype = getattr(torch, storage.type_name)
        places[key] = reader.tell()
        if count != storage.count or reader.seek(count * dtype.itemsize, 1) > reader.size:
            raise EOFError(f"storage {shown(key)} is cut short")
    return content, tuple(sorted(interpreter.left_out)), _NumbersInARow(reader, places)
