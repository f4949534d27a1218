"""A CUDA device that is not there, to show without one what the code does to it.

While `pretended_gpu()` is open `torch.cuda` says that there is a device, and what is moved to it becomes a
`PretendedTensor`. Every operator that touches one is

1. refused where CUDA would refuse it, because its operands lie on two devices;
2. looked up among the CUDA kernels, which a CUDA build of PyTorch registers where there is no GPU, too;
3. noted where it makes the host wait for the device, with the line of ours that asked for it;
4. computed on the CPU.

What it cannot see: waits and limits inside of kernels, memory, streams, graphs, `torch.compile`, several devices.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.utils._foreach_utils as foreach_utils
from pretended_calls import PretendedCalls
from pretended_rules import (
    Kind,
    Wait,
    base_name,
    full_name,
    has_kernel,
    is_made_of_others,
    is_mutable,
    refuse_mixed_devices,
    runs_kernel,
    wait_of,
)
from pretended_tensor import GPU, PretendedTensor, is_on_gpu, names_gpu, tensors_in, unwrap, wrap
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import detector

PACKAGE = f"{Path(detector.__file__).parent}/"


class PretendedGPU(TorchDispatchMode):
    """What was done to the device so far.

    waits: each time the host waited, in order. missing: operators for which CUDA has no kernel, with where they were
    called. kernels: how many operators computed something.
    """

    def __init__(self, calls: PretendedCalls) -> None:
        super().__init__()
        self.waits: list[Wait] = []
        self.missing: dict[str, str] = {}
        self.kernels = 0
        self.dtypes: Counter[tuple[str, torch.dtype]] = Counter()
        self._calls = calls

    def forget(self) -> None:
        """Begin anew, so that what follows is counted alone."""
        self.waits.clear()
        self.missing.clear()
        self.dtypes.clear()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = tensors_in([*args, *kwargs.values()])
        touches = any(is_on_gpu(t) for t in tensors)
        if touches and is_made_of_others(func):
            with self:  # in inference mode nothing before us takes such an operator apart
                return func.decompose(*args, **kwargs)
        if self._calls.in_backward and touches and not names_gpu(kwargs.get("device")):
            kwargs.pop("device", None)  # C++'s formulas ask C++ for the device of their operand
        from_formula = self._calls.in_backward and not tensors
        if not touches and not from_formula and not names_gpu(kwargs.get("device")):
            return func(*args, **kwargs)
        refuse_mixed_devices(func, args, tensors)
        self._note(func, args, kwargs, tensors)
        return self._compute(func, args, kwargs)

    def _note(self, func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> None:
        name = full_name(func)
        if not has_kernel(name):
            self.missing[name] = place()
        kind = wait_of(func, args, kwargs, tensors)
        if kind is not None:
            self.note_wait(kind, name, " ".join(str(tuple(t.shape)) for t in tensors))
        if runs_kernel(func):
            self.kernels += 1
        self.dtypes.update((name, t.dtype) for t in tensors if is_on_gpu(t))

    def note_wait(self, kind: Kind, operator: str, shapes: str = "") -> None:
        """The host waits here."""
        self.waits.append(Wait(kind, operator, shapes, place()))

    def _compute(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = base_name(func)
        held_args, held_kwargs = unwrap(args), {key: unwrap(value) for key, value in kwargs.items()}
        result = func(*held_args, **held_kwargs)
        if name == "aten::_to_copy" and kwargs.get("device") is not None and not names_gpu(kwargs["device"]):
            return result.clone() if result is held_args[0] else result
        if name == "aten::copy_" and not is_on_gpu(args[0]):
            return args[0]
        return _same_objects(func, args, kwargs, wrap(result))

    def table(self) -> str:
        """The waits, those of one place in one line."""
        counted = Counter(f"{wait.kind:9}{wait.place}  {wait.operator}" for wait in self.waits)
        return "\n".join(f"{count:3} × {line}" for line, count in counted.items())


def _same_objects(func: Any, args: Any, kwargs: dict[str, Any], results: Any) -> Any:
    """The results, and in place of those that an operator wrote into the very tensors that it was given."""
    if not is_mutable(func):
        return results
    schema = func._schema
    written: dict[str, Any] = {}
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            written |= dict.fromkeys(argument.alias_info.before_set, given)
    several = isinstance(results, tuple)
    listed = list(results) if several else [results]
    for position, returned in enumerate(schema.returns):
        if returned.alias_info is not None and returned.alias_info.is_write:
            for name in returned.alias_info.before_set:
                listed[position] = written.get(name, listed[position])
    return tuple(listed) if several else listed[0]


def place() -> str:
    """The innermost line of the package that is being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"detector/{path.removeprefix(PACKAGE)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of the package"


class _Event:
    """In place of `torch.cuda.Event`."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self.time = 0.0

    def record(self, *_args: object) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, other: "_Event") -> float:
        return 1000 * (other.time - self.time)

    def synchronize(self) -> None:
        """Nothing is under way."""


def _no_stream(*_args: object, **_kwargs: object) -> None:
    """In place of `torch.cuda.Stream`, which a GPU beside the pretended one would have."""
    raise RuntimeError("a pretended device has no streams")


_group_tensors = torch._C._group_tensors_by_device_and_dtype


def grouped(lists: Any, *rest: Any, **more: Any) -> dict[Any, Any]:
    """PyTorch's grouping for operators on lists, with the devices that Python sees."""
    groups = _group_tensors(lists, *rest, **more)
    return {(_device_of(found[0][0], device), dtype): found for (device, dtype), found in groups.items()}


def _device_of(tensors: list[Any], otherwise: torch.device) -> torch.device:
    return next((tensor.device for tensor in tensors if tensor is not None), otherwise)


PROPERTIES = SimpleNamespace(name="pretended", total_memory=80 * 2**30, multi_processor_count=132, major=9, minor=0)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """A device `cuda:0` for a while. Backward passes run in the calling thread, so that it is watched there."""
    calls = PretendedCalls()
    gpu = PretendedGPU(calls)
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _device: None,
        "_lazy_init": lambda: None,
        "synchronize": lambda _device=None: gpu.note_wait("value", "torch.cuda.synchronize"),
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda _device=None: None,
        "memory_allocated": lambda _device=None: 0,
        "max_memory_allocated": lambda _device=None: 0,
        "get_device_properties": lambda _device=None: PROPERTIES,
        "get_device_capability": lambda _device=None: (9, 0),
        "get_device_name": lambda _device=None: PROPERTIES.name,
        "is_bf16_supported": lambda including_emulation=True: True,  # noqa: ARG005
        "is_current_stream_capturing": lambda: False,
        "get_rng_state": lambda _device=None: torch.zeros(1, dtype=torch.uint8),
        "set_rng_state": lambda _state, _device=None: None,
        "get_rng_state_all": lambda: [],
        "set_rng_state_all": lambda _states: None,
        "manual_seed": lambda _seed: None,
        "manual_seed_all": lambda _seed: None,
        "Event": _Event,
        "Stream": _no_stream,
    }
    swap = torch.__future__.get_swap_module_params_on_conversion()
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        supported = [*foreach_utils._foreach_supported_types, PretendedTensor]
        stack.enter_context(mock.patch.object(foreach_utils, "_foreach_supported_types", supported))
        stack.enter_context(mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", grouped))
        torch.__future__.set_swap_module_params_on_conversion(True)  # a parameter's class changes when it is moved
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(calls)
        stack.enter_context(gpu)
        yield gpu


__all__ = ["GPU", "PretendedGPU", "pretended_gpu"]
