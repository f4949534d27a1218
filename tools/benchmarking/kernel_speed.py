"""Kernels of a convolution beside each other: what the thresholds of `detector/fast/choose.py` decide between."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarking.measurements import Report
from benchmarking.timing import cpus, ratio, take_turns, walls
from benchmarking.what_to_measure import Settings
from detector.fast.choose import TILE_BLOCK, choose_execution, has_kernels
from detector.fast.convolution import Execution, FusedConv, PackedConv, RoIMaps
from detector.fast.whole_maps import WholeMapConv
from detector.fast.winograd import WinogradConv

TABLE = "kernels"
REGIONS = 50  # that go through conv5_x together


@dataclass(frozen=True)
class Problem:
    """A convolution of a picture of 800×1216 in a ResNet of bottlenecks, or one around a threshold.

    layer: where it is. channels: in and out. size: of a map. count: maps. stride: of 3×3; None of a 1×1 convolution.
    """

    layer: str
    channels: tuple[int, int]
    size: tuple[int, int]
    count: int = 1
    stride: int | None = 1


PROBLEMS = (
    Problem("conv2_x", (64, 64), (200, 304)),
    Problem("conv3_x", (128, 128), (100, 152)),
    Problem("conv4_x", (256, 256), (50, 76)),
    Problem("RPN", (1024, 1024), (50, 76)),
    *(Problem("a small map", (256, 256), (side, side)) for side in (12, 16, 20, 24, 32)),
    Problem("conv5_x", (512, 512), (7, 7), REGIONS),
    Problem("conv5_x, stride 2", (512, 512), (14, 14), REGIONS, 2),
    Problem("conv5_x, reduce", (2048, 512), (7, 7), REGIONS, None),
    Problem("conv5_x, expand", (512, 2048), (7, 7), REGIONS, None),
)
QUICK = (
    Problem("tiles", (16, 16), (20, 28)),
    Problem("whole", (16, 16), (7, 7), 4),
    Problem("1×1", (32, 16), (7, 7), 4, None),
)


def run(settings: Settings, report: Report) -> None:
    """Every problem in float32 and, where the processor has it, in bfloat16; kernels take turns."""
    cpu = torch.device("cpu")
    dtypes = [dtype for dtype in (torch.float32, torch.bfloat16) if has_kernels(dtype)]
    executions = [choose_execution(dtype, cpu, timed=False) for dtype in dtypes]
    if not executions:
        report.note("kernels: without oneDNN there is nothing to choose")
    for execution in executions:
        if not execution.winograd:
            report.note(f"kernels: nothing to choose in {execution.dtype}")
            continue
        for threads in settings.threads:
            torch.set_num_threads(threads)
            for problem in QUICK if settings.quick else PROBLEMS:
                _measure(problem, execution, threads, settings, report)


@torch.inference_mode()
def _measure(problem: Problem, execution: Execution, threads: int, settings: Settings, report: Report) -> None:
    channels, others = problem.channels
    x = execution.channels_last(torch.randn(problem.count, channels, *problem.size))
    (name, direct), (other, kernel) = _kernels(problem, execution).items()
    calls: dict[str, Callable[[], Tensor]] = {name: lambda: direct(x), other: lambda: kernel(x)}
    same = torch.equal(calls[name](), calls[other]())
    samples = take_turns(calls, settings.rounds, torch.device("cpu"), repeats=1 if settings.quick else 3)
    gain, by_clock = (ratio(of(samples[name]), of(samples[other])) for of in (cpus, walls))
    report.add(
        TABLE,
        {
            "layer": problem.layer,
            "channels": f"{channels} to {others}",
            "maps": f"{problem.count} of {problem.size[0]}×{problem.size[1]}",
            "type": str(execution.dtype).removeprefix("torch."),
            "threads": threads,
            "kernels": f"{name} : {other}",
            "ms": f"{1000 * min(cpus(samples[name])):.2f} : {1000 * min(cpus(samples[other])):.2f}",
            "× by CPU time": str(gain),
            "× by the clock": str(by_clock),
            "same bits": "yes" if same else "no",
        },
    )


def _kernels(problem: Problem, execution: Execution) -> dict[str, nn.Module]:
    """The direct kernel and the other one, of the same random weights."""
    side = 1 if problem.stride is None else 3
    channels, others = problem.channels
    weight = torch.randn(others, channels, side, side) / (side * channels**0.5)
    maps = RoIMaps(problem.count, problem.size[0])
    if problem.stride is None:
        packed = (weight, None, 1, 0, False, execution, maps)
        return {"convolution": PackedConv(*packed), "product": PackedConv(*packed, as_product=True)}
    if problem.count == 1:
        tiles = WinogradConv(weight, None, False, execution, TILE_BLOCK, min_saved=0)
        return {"direct": FusedConv(weight, None, problem.stride, 1, False, execution), "tiles": tiles}
    return {
        "direct": PackedConv(weight, None, problem.stride, 1, False, execution, maps),
        "whole": WholeMapConv(weight, None, problem.stride, False, execution, maps, min_saved=0),
    }
