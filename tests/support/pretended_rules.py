"""What CUDA would say to an operator: whether it takes these operands, has a kernel, and makes the host wait."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pretended_tensor import is_on_gpu, names_gpu
from torch import Tensor

# Their result's shape is known only to the device.
SIZED_BY_VALUES = {
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "torchvision::nms",
}
READ_A_VALUE = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
INDEXING = {
    "aten::index",
    "aten::_unsafe_index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index_put",
}
# Copies are what crosses between devices.
CROSSING = {"aten::_to_copy", "aten::copy_", "aten::copy"}
# Views and memory that is not written: no kernel runs.
WITHOUT_KERNEL = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_strided", "aten::detach"}

Kind = Literal["upload", "download", "value", "size"]


class MixedDevicesError(RuntimeError):
    """Operands on two devices, as CUDA would refuse them."""


@dataclass(frozen=True)
class Wait:
    """The host waits for the device.

    kind: `upload` copies from pageable memory or without `non_blocking`; `download` copies to the host; `value` reads
    a number; `size` allocates what only the device knows the size of. place: file, line and function of ours.
    """

    kind: Kind
    operator: str
    shapes: str
    place: str

    def __str__(self) -> str:
        return f"{self.kind:9}{self.place}  {self.operator} {self.shapes}"


@functools.cache
def base_name(func: Any) -> str:
    """Of an operator, without its overload: `aten::add`."""
    return str(func._schema.name)


@functools.cache
def full_name(func: Any) -> str:
    """Of an operator, with its overload: `aten::add.Tensor`."""
    overload = func._overloadname
    return base_name(func) + ("" if overload in ("default", "") else f".{overload}")


@functools.cache
def is_mutable(func: Any) -> bool:
    """Whether it writes into an operand."""
    return bool(func._schema.is_mutable)


@functools.cache
def is_made_of_others(func: Any) -> bool:
    """Whether CUDA computes it by calling other operators, so that those are what runs."""
    return func._can_decompose() and not torch._C._dispatch_has_kernel_for_dispatch_key(full_name(func), "CUDA")


@functools.cache
def has_kernel(name: str) -> bool:
    """Whether CUDA computes this operator, by a kernel of its own or by one that is made of others."""
    keys = ("CUDA", "CompositeExplicitAutograd", "CompositeImplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    if any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in keys):
        return True
    return bool(torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CUDA"))


def refuse_mixed_devices(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """Raise MixedDevicesError where CUDA would: single numbers and indices may lie on the CPU, all else may not."""
    name = base_name(func)
    strangers = [t for t in tensors if not is_on_gpu(t) and t.dim() > 0]
    if not strangers or len(strangers) == len(tensors) or name in CROSSING:
        return
    if name in INDEXING:
        if not is_on_gpu(args[0]):
            raise MixedDevicesError(f"{full_name(func)}: indices on cuda:0 into a tensor on the CPU")
        values = args[2] if len(args) > 2 else None
        if not isinstance(values, Tensor) or is_on_gpu(values) or values.dim() == 0:
            return  # only indices, which are uploaded
    shapes = ", ".join(str(tuple(t.shape)) for t in strangers)
    raise MixedDevicesError(f"{full_name(func)}: some operands are on cuda:0, and some on the CPU: {shapes}")


def wait_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any], tensors: Sequence[Tensor]) -> Kind | None:
    """Why the host waits in this operator, of which an operand or the result is on the GPU."""
    name = base_name(func)
    if name in SIZED_BY_VALUES:
        return "size"
    if name == "aten::repeat_interleave":
        return None if kwargs.get("output_size") is not None else "size"
    if name in READ_A_VALUE:
        return "value"
    if name in INDEXING:
        return _wait_of_indexing(name, args)
    if name == "aten::_to_copy":
        return _wait_of_copy(is_on_gpu(args[0]), kwargs)
    if name in CROSSING and is_on_gpu(args[0]) != is_on_gpu(args[1]):
        non_blocking = len(args) > 2 and bool(args[2])
        return None if non_blocking and is_on_gpu(args[0]) else "upload" if is_on_gpu(args[0]) else "download"
    if name.endswith("masked_fill") and any(is_on_gpu(t) and t.dim() == 0 for t in tensors[2:]):
        return "value"
    return None


def _wait_of_copy(from_gpu: bool, kwargs: dict[str, Any]) -> Kind | None:
    device = kwargs.get("device")
    if device is None or names_gpu(device) == from_gpu:
        return None
    # A download that is not waited for is not there yet when the host looks at it: both kinds count.
    return "download" if from_gpu else None if kwargs.get("non_blocking") else "upload"


def _wait_of_indexing(name: str, args: Sequence[Any]) -> Kind | None:
    indices = [index for index in args[1] if isinstance(index, Tensor)]
    if any(not is_on_gpu(index) for index in indices):
        return "upload"
    if all(index.dtype not in (torch.bool, torch.uint8) for index in indices):
        return None
    # A mask is turned into indices first, except where one number fills it.
    fills = "put" in name and isinstance(args[2], Tensor) and args[2].numel() == 1
    if fills:
        return "value" if is_on_gpu(args[2]) else None
    return "size"


@functools.cache
def runs_kernel(func: Any) -> bool:
    """Whether it computes something, so that a kernel is launched; views do not."""
    is_view = any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)
    return not is_view and base_name(func) not in WITHOUT_KERNEL | READ_A_VALUE
