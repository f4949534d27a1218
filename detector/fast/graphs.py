"""Parts of the network as CUDA graphs, for the input sizes that come often.

How it works: a part of the network is some hundred kernels, each of which the host starts by itself; a small picture is
computed faster than that. A CUDA graph is all of them recorded once, for tensors of one size at one place in memory,
and started together. So inputs are copied to where the graph reads them, and its output to where nothing overwrites it.
The kernels are the same, and so are the bits. Where a part holds parts that are graphs themselves, what is recorded is
all of their kernels. The graphs of a part never run at once, so they share the memory for what lies in between.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detector.fast.fastest import fastest

log = logging.getLogger(__name__)

OFTEN = 3  # inputs of one size after which it is worth a graph
GRAPHS = 8  # of a part at a time, each of which holds memory for its inputs and outputs
IDLE = 400  # calls for which a graph has to wait in vain before another takes its place: to record takes some 25 calls
SIZES = 256  # of which it is remembered how often they came

Maps = Tensor | tuple[Tensor, ...]
Call = Callable[..., Maps]

_recording: ContextVar[bool] = ContextVar("recording", default=False)


class Graphed(nn.Module):
    """A part that runs as a graph where its inputs have come in these sizes before; else as it is.

    Args:
        part: takes tensors, gives one or several; without waits, and the same whatever the values are.
        name: what the log calls the part.
        capture: `capture_graph`, for a part and its inputs; None where the part is no slower as it is.
    """

    def __init__(
        self, part: Call, name: str, capture: Callable[[Call, tuple[Tensor, ...]], Call | None] | None = None
    ) -> None:
        super().__init__()
        self.part = part
        self.name = name
        self._capture = partial(capture_graph, memory=SharedMemory()) if capture is None else capture
        self._failed = False
        self._calls = 0
        self._used: dict[object, int] = {}  # the call at which each graph last ran
        self._seen: Counter[object] = Counter()
        self._graphs: OrderedDict[object, Call] = OrderedDict()

    def forward(self, *inputs: Tensor) -> Maps:
        """The part's output, in memory of its own."""
        if _recording.get():
            return self.part(*inputs)
        self._calls += 1
        size = (*((tuple(t.shape), t.dtype, t.stride()) for t in inputs), *_rounding())
        if size not in self._graphs and not self._is_due(size):
            return self.part(*inputs)
        if size not in self._graphs:
            self._make(size, inputs)
        run = self._graphs.get(size, self.part)
        if size in self._graphs:
            self._graphs.move_to_end(size)
            self._used[size] = self._calls
        return run(*inputs)

    def _is_due(self, size: object) -> bool:
        """Count a size, and say whether it has come often enough."""
        if self._failed:
            return False
        if len(self._seen) >= SIZES and size not in self._seen:
            self._seen.clear()
        self._seen[size] += 1
        return self._seen[size] >= OFTEN and (len(self._graphs) < GRAPHS or self._idle() >= IDLE)

    def _idle(self) -> int:
        """For how many calls the graph that was not used for longest was not used."""
        return self._calls - self._used[next(iter(self._graphs))]

    def _make(self, size: object, inputs: tuple[Tensor, ...]) -> None:
        """A graph for this size in place of the one that was not used for longest; where that fails, never again."""
        try:
            graph = self._capture(self.part, inputs)
        except RuntimeError as error:
            self._failed = True
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning(
                "%s runs without CUDA graphs (%s): slower for small pictures, but just as exact.", self.name, reason
            )
            return
        self._graphs[size] = self.part if graph is None else graph
        self._used[size] = self._calls
        if len(self._graphs) > GRAPHS:
            gone, _ = self._graphs.popitem(last=False)
            del self._used[gone]


class SharedMemory:
    """Where the graphs of one part keep what lies between their inputs and outputs."""

    def __init__(self) -> None:
        self._handle: Any = None

    def handle(self) -> Any:
        """CUDA's name for it; it is made when it is first asked for."""
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        return self._handle


def capture_graph(part: Call, inputs: tuple[Tensor, ...], memory: SharedMemory) -> Call | None:
    """A part recorded for inputs of these sizes, or None where it is no slower without.

    Args:
        part: as of `Graphed`.
        inputs: examples, which stay as they are.
        memory: of the part's graphs.

    Raises:
        RuntimeError: this device, or this part, cannot be recorded; torch.OutOfMemoryError is one.
    """
    now = _recording.set(True)  # also while both are timed: parts of the part need no graphs of their own
    try:
        replay = _record(part, inputs, memory)
        examples = tuple(given.clone() for given in inputs)
        calls: dict[bool, Callable[[], object]] = {
            False: lambda: part(*(given.clone() for given in examples)),
            True: lambda: replay(*examples),
        }
        return replay if fastest(calls, inputs[0].device) else None
    finally:
        _recording.reset(now)


def _record(part: Call, inputs: tuple[Tensor, ...], memory: SharedMemory) -> Call:
    """The part as a graph for inputs of these sizes."""
    device = inputs[0].device
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # Not as inference tensors, which nobody may write to later.
    with torch.inference_mode(False), torch.no_grad():
        places = [torch.empty_like(given) for given in inputs]
        _copy(places, inputs)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # libraries make their plans and take their workspaces now
            for _ in range(2):
                part(*(place.clone() for place in places))
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile: a data loader's takes page-locked memory.
        with torch.cuda.graph(graph, pool=memory.handle(), capture_error_mode="thread_local"):
            out = part(*places)

    def replay(*given: Tensor) -> Maps:
        _copy(places, given)
        graph.replay()
        return out.clone() if isinstance(out, Tensor) else tuple(one.clone() for one in out)

    return replay


def _rounding() -> tuple[bool, bool]:
    """Whether products of float32 tensors are rounded to TF32, which a recording fixes."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def _copy(places: list[Tensor], given: tuple[Tensor, ...]) -> None:
    for place, value in zip(places, given, strict=True):
        place.copy_(value)
