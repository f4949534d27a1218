#!/usr/bin/env python
"""Speed and memory beside torchvision's Faster R-CNN, assembled as C4 or its own FPN, with the same weights."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarking import (
    growth,
    inference_speed,
    kernel_speed,
    loading_speed,
    operators,
    scoring_speed,
    stages,
    startup,
    training_speed,
)
from benchmarking.forms import FORMS
from benchmarking.kept_memory import Memory, can_keep, memory_here, start_anew
from benchmarking.machine import describe_machine
from benchmarking.measurements import Report
from benchmarking.what_to_measure import Settings, make_quick

from detector import command
from detector.device import choose_device
from detector.errors import UserError
from detector.structures import Size


@dataclass(frozen=True)
class Part:
    """What is measured, and with which memory (`benchmarking.kept_memory`) on a CPU."""

    run: Callable[[Settings, Report], None]
    memories: tuple[Memory, ...] = ("returned",)


# On a GPU that is lent by the minute the first are those that need it.
PARTS: dict[str, Part] = {
    "inference": Part(inference_speed.run, ("kept", "returned")),
    "training": Part(training_speed.run, ("kept", "returned")),
    "profile": Part(operators.run, ("kept",)),
    "stages": Part(stages.run, ("kept",)),
    "growth": Part(growth.run, ("kept",)),
    "kernels": Part(kernel_speed.run, ("kept",)),
    "startup": Part(startup.run),
    "loading": Part(loading_speed.run),
    "scoring": Part(scoring_speed.run),
}

EXAMPLES = """examples:
  python tools/benchmark.py --quick                          does it work? (its numbers mean nothing)
  python tools/benchmark.py --part inference --threads 1 2   ResNet-101-C4, 800×1216, 300 and 1000 proposals
  python tools/benchmark.py --part inference --depth 50 --proposals 1000 --picture photo.jpg
  python tools/benchmark.py --part inference training --kind fpn   beside torchvision's own fasterrcnn_resnet50_fpn
  python tools/benchmark.py --part stages --kind fpn               where the time goes, beside the peer
  python tools/benchmark.py --part inference --proposals 300 --batch 8 --rounds 3 --forms eager bf16-compiled
  python tools/benchmark.py --device cuda --output output/h200     all of it on a GPU, in minutes

Both networks take turns in one process (A B A B); ratios are of the medians, with the range over the rounds. Before any
ratio both must give the same results, else the exit code is 1 and no ratio is printed. Use an idle machine: whatever
else runs slows both, but not equally.

The C library gives freed memory back to the system, and page faults get it again: seconds of the peer's time, more or
less by the machine. So where it is glibc the parts inference and training run twice, each in a process of its own:
with memory kept, which is the headline, and as the system has it, beside that. --memory kept or returned runs one."""


def picture_size(text: str) -> Size:
    """The `type` of --size: HEIGHTxWIDTH in pixels."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(height := int(match[1]), width := int(match[2])) < 64:
        raise argparse.ArgumentTypeError("write HEIGHTxWIDTH in pixels, such as 800x1216, each 64 or more")
    return height, width


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command line, or of this process where there are none; exits with code 2 on wrong ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Settings(choose_device("cpu"))
    number = command.positive
    parser.add_argument("--part", nargs="+", choices=[*PARTS, "all"], default=["all"], help="what to measure (all)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("output/benchmark"), help="folder (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="a photograph to detect in (default: a rendered picture)")
    parser.add_argument("--size", type=picture_size, default=defaults.size, help="that it gets (default: 800x1216)")
    parser.add_argument("--kind", choices=("c4", "fpn"), default=defaults.kind, help="of model (default: %(default)s)")
    parser.add_argument(
        "--depth", nargs="+", type=int, choices=(18, 34, 50, 101, 152), help="of the ResNet (C4: 101; FPN: 50)"
    )
    parser.add_argument("--proposals", nargs="+", type=number, default=defaults.proposals, help="a picture (300 1000)")
    parser.add_argument("--batch", nargs="+", type=number, help="pictures at once (CPU: 1; GPU: 1 8)")
    parser.add_argument("--threads", nargs="+", type=number, default=defaults.threads, help="on the CPU (1)")
    parser.add_argument("--rounds", type=number, default=defaults.rounds, help="turns of each (%(default)s)")
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=FORMS,
        help=f"beside ours ({' '.join(defaults.forms)}; on a GPU ours-compiled, too)",
    )
    parser.add_argument(
        "--memory", choices=("both", "kept", "returned"), default="both", help="what is freed is (%(default)s)"
    )
    parser.add_argument("--continued", action="store_true", help=argparse.SUPPRESS)  # one process of a run
    parser.add_argument("--annotations", type=Path, help="COCO file for the loading part (default: made pictures)")
    parser.add_argument("--images", type=Path, help="its folder of pictures")
    parser.add_argument("--quick", action="store_true", help="small problems, one round: seconds, to try the tool")
    return parser.parse_args(arguments)


def make_settings(args: argparse.Namespace) -> Settings:
    """The plan of a run. Raises UserError where arguments contradict each other or the machine."""
    device = choose_device(args.device)
    if device.type == "mps":
        raise UserError("--device mps: only cpu and cuda are measured; choose one of them.")
    if (args.annotations is None) != (args.images is None):
        raise UserError("--annotations and --images belong together; give both or none.")
    forms = args.forms or [*Settings.forms, *([] if device.type == "cpu" else ["ours-compiled"])]
    if "eager" not in forms:
        raise UserError("--forms: eager must be among them, because it is what all others are compared with.")
    available = os.cpu_count() or 1
    if device.type == "cpu" and max(args.threads) > available:
        raise UserError(f"--threads {max(args.threads)}: this machine has {available}; choose at most that.")
    settings = Settings(
        device=device,
        picture=args.picture,
        size=args.size,
        depths=tuple(args.depth or ((101,) if args.kind == "c4" else (50,))),
        kind=args.kind,
        proposals=tuple(args.proposals),
        batches=tuple(args.batch or ((1,) if device.type == "cpu" else (1, 8))),
        threads=tuple(args.threads) if device.type == "cpu" else (available,),
        rounds=args.rounds,
        forms=tuple(name for name in FORMS if name in forms),
        annotations=args.annotations,
        images=args.images,
        memory=memory_here(),
    )
    return make_quick(settings) if args.quick else settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen parts; returns 1 where a comparison was refused because results differ, else 0."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = parse_arguments(words)
    settings = make_settings(args)
    chosen = list(PARTS) if "all" in args.part else [part for part in PARTS if part in args.part]
    if args.continued:
        report = Report(args.output, continued=True)
        for name in chosen:
            PARTS[name].run(settings, report)
        return 0
    print(f"parts    {', '.join(chosen)}\ndevice   {settings.device}\noutput   {args.output}\n", flush=True)
    report = Report(args.output)
    _describe(settings, report)
    for name in chosen:
        for memory in memories_of(PARTS[name], settings, args.memory):
            started = time.perf_counter()
            _measure(name, memory, settings, report, words)
            print(f"{name}, memory {memory}, took {time.perf_counter() - started:.0f} s\n", flush=True)
    path = report.write_markdown()
    print(f"{path.read_text()}\nwrote {path}")
    if report.refused:
        print(f"error: no ratio for {len(report.refused)} comparisons, whose results differ", file=sys.stderr)
        return 1
    return 0


def _describe(settings: Settings, report: Report) -> None:
    for line in describe_machine(settings.device):
        report.note(line)
    if settings.quick:
        report.note("--quick: the numbers mean nothing")
    if settings.device.type == "cpu" and not can_keep():
        report.note("this C library cannot be told to keep memory: everything is measured as the system has it")


def memories_of(part: Part, settings: Settings, wanted: str) -> tuple[Memory, ...]:
    """The kinds of memory that a part is measured with, one after the other."""
    if settings.device.type != "cpu" or not can_keep():
        return (memory_here(),)
    if wanted == "both":
        return part.memories
    return tuple(memory for memory in part.memories if memory == wanted) or part.memories[:1]


def _measure(name: str, memory: Memory, settings: Settings, report: Report, words: list[str]) -> None:
    """Run a part; in a process of its own where this one has the other memory, whose records the report then has."""
    if memory == memory_here():
        PARTS[name].run(replace(settings, memory=memory), report)
        return
    # The last of a repeated argument counts, so the others stay what they are.
    code = start_anew(__file__, [*words, "--part", name, "--continued"], memory)
    report.read_again()
    if code != 0:
        raise SystemExit(code)  # it has said why


if __name__ == "__main__":
    command.run(main)
