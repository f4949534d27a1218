"""Read a pickle of unknown origin without trusting it: numpy arrays and plain containers, and nothing else.

A pickle is a program whose instructions may call anything that can be imported. Here its imports never reach Python's:
the few names that numpy arrays are made of map to stand-ins of our own that check their arguments and build arrays from
the file's own bytes; every other name is refused before anything runs. The interpreter is the standard library's pure
Python one, because the C one allocates what a hostile file claims (a memo of 2³¹ entries) before reading it.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

from detector.errors import UserError, one_line
from detector.weights.untrusted.bounded_reader import BoundedReader, TooLargeError
from detector.weights.untrusted.pickle_scan import TooLongError, scan_pickle

# Of numeric arrays only. Objects ("O") would hold pickled calls, and no weights are strings, records or complex.
NUMERIC_TYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"})
BYTE_ORDERS = frozenset({"<", ">", "=", "|"})
MAX_DEPTH = 16


class RefusedPickle(UserError):  # noqa: N818 (a refusal, which need not be an error of ours or the file's)
    """The pickle wants something that weights do not need. Nothing of it was executed."""


def read_pickle(file: BinaryIO, source: str, known: Mapping[tuple[str, str], Callable[..., Any]] | None = None) -> Any:
    """Unpickle numpy arrays (numeric ones) in dicts, lists, tuples and plain values; also Python 2's files.

    Args:
        file: open, at its beginning. Memory stays within a small multiple of its bytes, whatever the pickle claims, and
            time within seconds (`pickle_scan`).
        source: the file's name, for messages.
        known: functions of ours that stand for further names (module, name), such as `pickled_tensors`' ones.

    Raises:
        UserError: one sentence saying what the file wanted (`RefusedPickle`), or that it is damaged or no pickle.
    """
    reader = BoundedReader(file)
    try:
        return _finish(_ArrayUnpickler(_scanned(reader), known or {}).load(), {}, depth=0)
    except (RefusedPickle, TooLongError, TooLargeError) as refusal:
        raise RefusedPickle(f"{source}: refused, {one_line(refusal)}; nothing of it was executed.") from None
    except Exception as error:
        # A damaged or hostile stream can raise nearly anything from the interpreter; none of it is our own failure.
        reader.seek(0)
        if is_text(reader.read(512), whole=reader.size <= 512):
            raise UserError(f"{source}: this is a text file, not weights.") from None
        reason = one_line(f"{type(error).__name__} {error}".strip())
        raise UserError(
            f"{source}: not a complete pickle of numpy arrays ({reason}), the file is damaged or cut short; "
            "copy or download it again."
        ) from None


def _scanned(file: BoundedReader) -> BoundedReader:
    """The same file at its beginning, after a look through it. Other damage than length shows when it is read."""
    try:
        scan_pickle(file)
    except (TooLongError, TooLargeError):
        raise
    except (ValueError, IndexError, KeyError, EOFError, struct.error):
        pass
    file.seek(0)
    return file


def is_html(data: bytes) -> bool:
    """Whether a file begins like a web page, as failed downloads do."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body"))


def is_text(beginning: bytes, whole: bool = True) -> bool:
    """Whether the beginning of a file, or the `whole` of a short one, reads as text."""
    try:
        head = beginning[:512].decode("utf-8", errors="strict" if whole and len(beginning) <= 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return bool(head) and all(c.isprintable() or c in "\t\r\n" for c in head)


class _Dtype:
    """Stands for numpy.dtype: a numeric type and a byte order."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, _align: Any = False, _copy: Any = True) -> None:
        if not isinstance(code, str) or code not in NUMERIC_TYPES:
            raise RefusedPickle(f"it wants a numpy array of type {code!r}, and weights are numbers")
        self._code, self._order = code, "="

    def __setstate__(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_ = state
        if order not in BYTE_ORDERS or (subarray, names, fields) != (None, None, None):
            raise RefusedPickle("it wants a numpy record type, and weights are numbers")
        self._order = order

    def read(self, data: bytes | bytearray, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
        """The array in `data`, in native byte order; a view where it can be. Refuses a shape that data do not fill."""
        dtype = np.dtype(self._order + self._code)
        count = 1
        for length in shape:
            if not isinstance(length, int) or length < 0:
                raise RefusedPickle(f"it wants an array of shape {shape!r}")
            count *= length
        if count * dtype.itemsize != len(data):
            raise RefusedPickle(f"an array of shape {shape} claims other than the {len(data)} bytes that it has")
        array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)


class _Array:
    """Stands for a numpy array between its creation (empty) and its state (everything)."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if isinstance(data, str):  # Python 2 had one type for text and bytes
            data = data.encode("latin1")
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not isinstance(data, bytes):
            raise RefusedPickle("it holds a numpy array whose contents are not plain numbers")
        self.value = dtype.read(data, shape, bool(fortran))


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict. The attributes that PyTorch hangs on a state dict (`_metadata`) are not kept."""

    def __setstate__(self, state: Any) -> None:
        pass


class _NdarrayType:
    """Stands for the class numpy.ndarray where it is an argument. It cannot be called: that would allocate."""

    __slots__ = ()


class _Function:
    """Stands for a function. Unlike a function it has no attributes that a pickle could replace."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise RefusedPickle("it changes a function")

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _reconstruct(_kind: Any, _shape: Any, _code: Any) -> _Array:
    if not isinstance(_kind, _NdarrayType):
        raise RefusedPickle("it wants a numpy array of a class other than ndarray")
    return _Array()  # whatever the shape: the state says it again, beside the bytes that fill it


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise RefusedPickle("it holds a numpy array whose contents are not plain numbers")
    return dtype.read(data, shape, order == "F")


def _scalar(dtype: Any, data: Any) -> int | float | bool:
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise RefusedPickle("it holds a numpy value that is not a number")
    value: int | float | bool = dtype.read(data, (), fortran=False).item()
    return value


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedPickle(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""  # how Python 3 writes no bytes for Python 2; with an argument the call fails


def _stand_ins() -> dict[tuple[str, str], Any]:
    """What a pickle may name, with what it gets; made afresh for every file. numpy moved its core between 1 and 2."""
    known: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _NdarrayType(),
        ("numpy", "dtype"): _Function(_Dtype),
        ("collections", "OrderedDict"): _Function(_Dict),
        ("_codecs", "encode"): _Function(_encode),
        ("__builtin__", "bytes"): _Function(_empty_bytes),
    }
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = _Function(_reconstruct)
        known[f"{core}.multiarray", "scalar"] = _Function(_scalar)
        known[f"{core}.numeric", "_frombuffer"] = _Function(_from_buffer)
    return known


class PlainUnpickler(pickle._Unpickler):
    """Python's own pickle interpreter without imports; what a name stands for is for a subclass to say."""

    read: Callable[[int], bytes]  # set by `load`
    append: Callable[[Any], None]

    def __init__(self, file: BoundedReader) -> None:
        super().__init__(file, encoding="latin1", fix_imports=False)

    def _load_bytearray(self) -> None:
        # The standard library's makes a bytearray of the claimed length, filled with zeros, before it reads.
        (length,) = struct.unpack("<Q", self.read(8))
        data = self.read(length)
        if len(data) != length:
            raise pickle.UnpicklingError("a bytearray is cut short")
        self.append(bytearray(data))

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }

    def find_class(self, module: str, name: str) -> Any:
        raise RefusedPickle(f"it wants {module}.{name}, and weights are numpy arrays in plain containers")

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 (the interpreter passes it)
        raise RefusedPickle("it wants data kept outside of the pickle, as torch.save writes them")

    def get_extension(self, code: int) -> Any:
        raise RefusedPickle(f"it wants the registered extension {code}")


class _ArrayUnpickler(PlainUnpickler):
    """An interpreter whose imports end in `_stand_ins`."""

    def __init__(self, file: BoundedReader, known: Mapping[tuple[str, str], Callable[..., Any]]) -> None:
        super().__init__(file)
        self._known = _stand_ins() | {name: _Function(call) for name, call in known.items()}

    def find_class(self, module: str, name: str) -> Any:
        return self._known[module, name] if (module, name) in self._known else super().find_class(module, name)


def _finish(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Replace the stand-ins inside containers by what they stand for; visits shared and cyclic ones once."""
    if depth > MAX_DEPTH:
        raise RefusedPickle(f"its containers are nested more than {MAX_DEPTH} deep")
    if isinstance(value, _Array):
        if value.value is None:
            raise RefusedPickle("it holds a numpy array without contents")
        return value.value
    if isinstance(value, _Dtype | _Function | _NdarrayType):
        raise RefusedPickle("it holds a type or a function, and weights are arrays")
    if isinstance(value, set | frozenset):
        raise RefusedPickle("it holds a set, and weights are in dicts, lists and tuples")
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in done:
        done[id(value)] = None  # a cycle ends here
        if isinstance(value, dict):
            done[id(value)] = {_finish(k, done, depth + 1): _finish(v, done, depth + 1) for k, v in value.items()}
        else:
            kind = list if isinstance(value, list) else tuple
            done[id(value)] = kind(_finish(v, done, depth + 1) for v in value)
    return done[id(value)]
