"""Tensors in a plain pickle, as `pickle.dump` of a state dict writes them: each storage is a small file of torch.save.

Those files are read as records (`runner_file`), so that nothing is called but what is here.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from detector.weights.untrusted.bounded_reader import BoundedReader
from detector.weights.untrusted.inert_unpickle import StorageRecord, TensorRecord
from detector.weights.untrusted.runner_file import Numbers, open_legacy
from detector.weights.untrusted.torch_file import scan_legacy
from detector.weights.untrusted.unpickle import RefusedPickle


@dataclass(frozen=True, slots=True)
class PickledStorage:
    """The numbers that tensors share, and what the pickle says of them."""

    record: StorageRecord
    numbers: Numbers


def load_storage(data: Any) -> PickledStorage:
    """The storage in the bytes that `torch.storage._load_from_bytes` would be given; damage raises nearly anything."""
    if not isinstance(data, bytes | bytearray):
        raise RefusedPickle("it holds a tensor whose numbers are no bytes")
    scan_legacy(io.BytesIO(data))
    record, _, numbers = open_legacy(BoundedReader(io.BytesIO(data)))
    if not isinstance(record, StorageRecord):
        raise RefusedPickle("it holds a tensor whose numbers are of a type that weights do not have")
    return PickledStorage(record, numbers)


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> Tensor:
    """The tensor that `torch._utils._rebuild_tensor_v2` would make. Raises RefusedPickle where its claim is wrong."""
    if not isinstance(storage, PickledStorage):
        raise RefusedPickle("it holds a tensor without numbers")
    try:
        return storage.numbers.tensor(TensorRecord(storage.record, offset, shape, strides))
    except ValueError as error:
        raise RefusedPickle(str(error)) from None


def rebuild_parameter(tensor: Any, *_rest: Any) -> Tensor:
    """The tensor of a `torch.nn.Parameter`."""
    if not isinstance(tensor, Tensor):
        raise RefusedPickle("it holds a parameter that is no tensor")
    return tensor


TENSOR_NAMES: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch.storage", "_load_from_bytes"): load_storage,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
}
