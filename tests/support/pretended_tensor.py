"""A tensor that says it lies on a GPU and holds its values on the CPU."""

from typing import Any

import torch
from torch import Tensor

GPU = torch.device("cuda", 0)


class PretendedTensor(torch.Tensor):
    """To Python, to autograd and to the dispatcher's keys it is CUDA's; only C++'s own `device()` says the CPU.

    held: the values, a plain tensor. Both share one memory.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> "PretendedTensor":
        assert type(held) is Tensor, type(held)
        made = torch.Tensor._make_subclass(cls, held, requires_grad, device_for_backend_keys=GPU)
        made.held = held
        return made

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"PretendedTensor({self.held!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a pretended tensor outside of `pretended_gpu()`")

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretendedTensor":
        copied = PretendedTensor(self.held.detach().clone(memory_format=torch.preserve_format), self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True  # what makes a tensor of another class a parameter
        memo[id(self)] = copied
        return copied


def is_on_gpu(value: object) -> bool:
    """Whether it is a pretended tensor."""
    return isinstance(value, PretendedTensor)


def names_gpu(device: object) -> bool:
    """Whether it names a CUDA device, in any of the ways in which one is written."""
    return device is not None and torch.device(device).type == "cuda"


def unwrap(value: Any) -> Any:
    """What the CPU computes with in its place, in lists and tuples too."""
    if isinstance(value, PretendedTensor):
        return value.held
    if isinstance(value, (list, tuple)):
        return type(value)([unwrap(one) for one in value])
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value


def wrap(value: Any) -> Any:
    """Plain tensors onto the pretended device, in lists and tuples too; all else as it is."""
    if isinstance(value, (list, tuple)):
        return type(value)([wrap(one) for one in value])
    return PretendedTensor(value) if type(value) is Tensor else value


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of an operator's arguments, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for one in value for tensor in tensors_in(one)] if isinstance(value, (list, tuple)) else []
