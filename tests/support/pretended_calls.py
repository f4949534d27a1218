"""Calls whose outcome C++ would decide by the device that it sees, which for a pretended tensor is the CPU."""

from typing import Any

import torch
from pretended_tensor import GPU, is_on_gpu, names_gpu
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten

# CUDA's lists, of aten/src/ATen/autocast_mode.h, as far as this network needs them.
LOWERED = {
    "conv1d",
    "conv2d",
    "conv3d",
    "matmul",
    "__matmul__",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "linear",
    "einsum",
    "mv",
}
RAISED = {
    "exp",
    "log",
    "log1p",
    "pow",
    "rsqrt",
    "reciprocal",
    "softplus",
    "layer_norm",
    "group_norm",
    "nll_loss",
    "cross_entropy",
    "smooth_l1_loss",
    "l1_loss",
    "mse_loss",
    "binary_cross_entropy_with_logits",
    "norm",
    "logsumexp",
    "softmax",
    "log_softmax",
    "cumsum",
    "cumprod",
    "sum",
    "prod",
}


class PretendedCalls(TorchFunctionMode):
    """Moves tensors to and from the pretended device, and casts as CUDA's autocast does.

    in_backward: a backward pass of pretended tensors is under way.
    """

    in_backward = False

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.type_as):
            return move(func, args, kwargs)
        if func in (torch.tensor, torch.as_tensor) and names_gpu(kwargs.get("device")):
            return upload(func(*args, **kwargs | {"device": "cpu"}) if not is_on_gpu(args[0]) else args[0])
        if func is torch.Tensor.new_tensor and is_on_gpu(args[0]):
            given = {"dtype": args[0].dtype} | {k: v for k, v in kwargs.items() if k != "device"}
            return upload(torch._C._VariableFunctions.tensor(*args[1:], **given))
        if func in (torch.Tensor.tolist, torch.Tensor.numpy) and is_on_gpu(args[0]):
            if func is torch.Tensor.numpy:
                raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
            return download(args[0].detach()).tolist()
        if func is torch.Tensor.pin_memory:
            return args[0]
        if func is torch.Tensor.backward and is_on_gpu(args[0]):
            self.in_backward = True
            try:
                return func(*args, **kwargs)
            finally:
                self.in_backward = False
        if torch.is_autocast_enabled("cuda"):
            args, kwargs = as_autocast(func, args, kwargs)
        return func(*args, **kwargs)


def upload(tensor: Tensor) -> Tensor:
    """To the pretended device, the host waiting."""
    return aten._to_copy.default(tensor, device=GPU)


def download(tensor: Tensor) -> Tensor:
    """To the CPU, the host waiting."""
    return aten._to_copy.default(tensor, device=torch.device("cpu"))


def move(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """`Tensor.to` and its relatives, between the devices that Python sees."""
    tensor, rest = args[0], list(args[1:])
    here = GPU if is_on_gpu(tensor) else torch.device("cpu")
    copy = bool(kwargs.get("copy"))
    if func is torch.Tensor.cpu:
        device, dtype, non_blocking, layout = torch.device("cpu"), None, False, None
    elif func is torch.Tensor.cuda:
        device, dtype, non_blocking, layout = GPU, None, bool(kwargs.get("non_blocking")), None
    elif func is torch.Tensor.type_as or (rest and isinstance(rest[0], Tensor)):
        device, dtype, non_blocking, layout = rest[0].device, rest[0].dtype, False, kwargs.get("memory_format")
    else:
        layout = kwargs.get("memory_format")
        named = {k: v for k, v in kwargs.items() if k not in ("copy", "memory_format")}
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*rest, **named)
    device = here if device is None else GPU if device.type == "cuda" else device
    dtype = tensor.dtype if dtype is None else dtype
    fits = layout is None or layout is torch.preserve_format or tensor.is_contiguous(memory_format=layout)
    if not copy and device == here and dtype == tensor.dtype and fits:
        return tensor
    chosen: dict[str, Any] = {} if layout is None else {"memory_format": layout}
    if device != here:
        chosen |= {"device": device, "non_blocking": non_blocking}
    return aten._to_copy.default(tensor, dtype=dtype, **chosen)


def as_autocast(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments in the type in which CUDA's autocast would compute."""
    name = getattr(func, "__name__", "")
    if name in LOWERED:
        wanted = torch.get_autocast_dtype("cuda")
    elif name in RAISED and kwargs.get("dtype") is None:
        wanted = torch.float32
    else:
        return args, kwargs

    def cast(value: Any) -> Any:
        if is_on_gpu(value) and value.is_floating_point() and value.dtype not in (torch.float64, wanted):
            return aten._to_copy.default(value, dtype=wanted)
        return value

    return tree_map(cast, args), tree_map(cast, kwargs)
