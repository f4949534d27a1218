"""Read the pickle of a training checkpoint whose classes are not at hand, and of which only the weights are wanted.

mmengine's Runner stores its logger, hooks and schedules beside the weights, as objects of its own classes. Nothing of
them is imported here, let alone called: every name that weights do not need becomes a `Placeholder`, which swallows
calls, state and items. That includes `getattr`, which such files name for a harmless reason and others for a bad one.
Tensors are read as records of where their numbers lie; whoever needs one makes it (`torch_storages`).
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from detector.weights.untrusted.bounded_reader import BoundedReader
from detector.weights.untrusted.unpickle import PlainUnpickler

# Of those types that weights have: the storage's name in torch, and the type's.
STORAGE_TYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_TYPE_NAMES = frozenset(STORAGE_TYPES.values())


class Placeholder:
    """Stands for any class, function or object that weights do not need. Whatever is done to it does nothing."""

    __slots__ = ()

    def __call__(self, *_args: Any, **_kwargs: Any) -> "Placeholder":
        """Another placeholder."""
        return Placeholder()

    def __setstate__(self, _state: Any) -> None:
        """Nothing."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Nothing."""

    def append(self, _item: Any) -> None:
        """Nothing."""

    extend = add = append


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """Numbers that lie beside the pickle. type_name: torch's, as `float32`. key: where. count: how many."""

    type_name: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor as the pickle claims it to be; nothing of it is checked yet."""

    storage: StorageRecord
    offset: Any
    shape: Any
    strides: Any


class InertUnpickler(PlainUnpickler):
    """An interpreter that builds plain values, dicts and records of tensors, and placeholders for all else.

    Attributes:
        left_out: the names that became placeholders.
        storages: by key, what the pickle says of the numbers beside it.
    """

    def __init__(self, file: BoundedReader) -> None:
        super().__init__(file)
        self.left_out: set[str] = set()
        self.storages: dict[str, StorageRecord] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for; only a few of torch's and `OrderedDict` stand for anything."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        self.left_out.add(f"{module}.{name}")
        return Placeholder()

    def persistent_load(self, pid: Any) -> Any:
        """The record of a storage; a placeholder for one of a type that weights do not have."""
        match pid:
            case ("storage", str() as type_name, str() as key, _, int() as count, *_) if type_name in _TYPE_NAMES:
                record = StorageRecord(type_name, key, count)
                if self.storages.setdefault(key, record) != record:
                    raise pickle.UnpicklingError("it describes a storage in two ways")
                return record
        return Placeholder()

    stack: list[Any]

    def _load_newobj(self) -> None:
        del self.stack[-2:]  # the class, whose `__new__` would be called, and the arguments
        self.append(Placeholder())

    def _load_newobj_ex(self) -> None:
        del self.stack[-3:]
        self.append(Placeholder())

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **PlainUnpickler.dispatch,
        pickle.NEWOBJ[0]: _load_newobj,
        pickle.NEWOBJ_EX[0]: _load_newobj_ex,
    }


class _Function:
    """Stands for a function that makes a record. It has no attributes that a pickle could replace."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict; the attributes that PyTorch hangs on a state dict (`_metadata`) are not kept."""

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> Any:
    return TensorRecord(storage, offset, shape, strides) if isinstance(storage, StorageRecord) else Placeholder()


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


_KNOWN = {
    ("collections", "OrderedDict"): _Function(_Dict),
    ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_parameter),
}
