#!/usr/bin/env python
"""Deeper plain networks train worse, and shortcuts change that: the ResNet paper's figure 6 on the embedded set."""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.cifar_net import blocks_per_stage
from experiments.crops import load_crops
from experiments.curves import BATCH, Curve, NetSpec, train_net
from experiments.figure import draw
from experiments.runs import run_all
from experiments.table import error_table, verdicts

from detector import command
from detector.datasets.shapes.on_disk import available_processors
from detector.disk import write_atomically

SIZE = 16  # pixels of a crop's edge
EXAMPLES = """examples:
  python tools/degradation.py                          plain and residual networks of 20 and 56 layers, three seeds
  python tools/degradation.py --shortcut projection    1×1 convolutions where the shape changes, in place of zeros
  python tools/degradation.py --depths 20 --seeds 0 --steps 50    does it work? (too short to show anything)

The networks are those of the ResNet paper, §4.2, at half its widths (8, 16, 32), of the detector's own blocks. They see
the objects of the embedded set, cut out and shrunk to 16×16 pixels. Training error is that of the batches as they are
trained on: deeper plain networks are not worse because they learn by heart, they are harder to train."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command line, or of this process where there are none; exits with code 2 on wrong ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output/degradation"), help="folder (default: %(default)s)")
    parser.add_argument("--depths", nargs="+", type=int, default=[20, 56], help="layers, 6n + 2 each (default: 20 56)")
    parser.add_argument("--shortcut", choices=("identity", "projection"), default="identity", help="(%(default)s)")
    parser.add_argument("--seeds", nargs="+", type=command.whole, default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--steps", type=command.positive, default=1500, help="of each network (default: %(default)s)")
    parser.add_argument("--width", type=command.positive, default=8, help="of the first stage (default: %(default)s)")
    parser.add_argument("--processes", type=command.positive, help="at a time (default: one a processor)")
    parser.add_argument("--data", type=Path, default=Path("data/shapes"), help="the embedded set (%(default)s)")
    return parser.parse_args(arguments)


def plan(args: argparse.Namespace) -> list[NetSpec]:
    """The networks to train, the deepest first: for each seed and depth a plain and a residual one.

    Raises:
        UserError: a depth that networks of this form do not have.
    """
    for depth in args.depths:
        blocks_per_stage(depth)
    return [
        NetSpec(depth, args.width, shortcut, seed)
        for depth in sorted(set(args.depths), reverse=True)
        for seed in dict.fromkeys(args.seeds)
        for shortcut in ("none", args.shortcut)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the networks; write the curves, the table and the figure."""
    args = parse_arguments(arguments)
    specs = plan(args)
    processes = min(args.processes or available_processors(), len(specs))
    print(f"networks    {len(specs)}: {', '.join(dict.fromkeys(title(s) for s in specs))}; seeds {args.seeds}")
    print(f"schedule    {args.steps} steps of {BATCH} crops; {processes} processes of one thread each")
    print(f"data        objects of {args.data}, {SIZE}×{SIZE} pixels\noutput      {args.output}", flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    crops = load_crops(args.data, SIZE)
    print(f"crops       {len(crops.train.labels)} to train on, {len(crops.val.labels)} of val", flush=True)
    started = time.perf_counter()
    curves: list[Curve] = []
    for curve in run_all(partial(train_net, crops=crops, steps=args.steps), specs, args.steps, processes):
        curves.append(curve)
        write(args.output / "curves.json", json.dumps([dataclasses.asdict(c) for c in curves], indent=1))
    curves.sort(key=lambda c: (c.spec.kind, c.spec.depth, c.spec.seed))
    table = error_table(curves, lambda curve: title(curve.spec))
    write(args.output / "table.md", table + "\n")
    write(args.output / "degradation.svg", draw(curves, args.steps, caption(curves)))
    print("\nerror in percent; training: of the last steps' batches\n\n" + table + "\n")
    for line in verdicts(curves):
        print(line)
    minutes, processor = (time.perf_counter() - started) / 60, sum(c.seconds for c in curves) / 60
    print(f"\n{minutes:.1f} minutes, {processor:.1f} of processor time. Curves, table and figure are in {args.output}")
    return 0


def title(spec: NetSpec) -> str:
    """A network's name in the table."""
    return f"{spec.kind} {spec.depth}" + (" (projection)" if spec.shortcut == "projection" else "")


def caption(curves: Sequence[Curve]) -> str:
    """The line below the figure."""
    seeds = len({c.spec.seed for c in curves})
    return f"Objects of the embedded set at {SIZE}×{SIZE} pixels. Thin: each of {seeds} seeds; thick: their mean."


def write(path: Path, text: str) -> None:
    """Put a text into a file, whole or not at all."""
    write_atomically(path, text.encode())


if __name__ == "__main__":
    command.run(main)
