#!/usr/bin/env python
"""Deeper plain networks train worse, and shortcuts change that: the ResNet paper's figure 6 on the embedded set."""

import argparse
from collections.abc import Sequence

from experiments.cifar_net import blocks_per_stage
from experiments.curves import Curve, NetSpec
from experiments.experiment import SIZE, add_arguments, train_all, write
from experiments.figure import draw
from experiments.table import error_table, verdicts

from detector import command

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
    add_arguments(parser, "degradation")
    parser.add_argument("--depths", nargs="+", type=int, default=[20, 56], help="layers, 6n + 2 each (default: 20 56)")
    parser.add_argument("--shortcut", choices=("identity", "projection"), default="identity", help="(%(default)s)")
    return parser.parse_args(arguments)


def plan(args: argparse.Namespace) -> list[NetSpec]:
    """The networks to train: for each seed and depth, the deepest first, a plain and a residual one.

    Raises:
        UserError: a depth that networks of this form do not have.
    """
    for depth in args.depths:
        blocks_per_stage(depth)
    return [
        NetSpec(depth, args.width, shortcut, seed)
        for seed in dict.fromkeys(args.seeds)
        for depth in sorted(set(args.depths), reverse=True)
        for shortcut in ("none", args.shortcut)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the networks; write the curves, the table and the figure."""
    args = parse_arguments(arguments)
    specs = plan(args)
    curves = sorted(train_all(args, specs, title), key=lambda c: (c.spec.kind, c.spec.depth, c.spec.seed))
    table = error_table(curves, lambda curve: title(curve.spec))
    write(args.output / "table.md", table + "\n")
    write(args.output / "degradation.svg", draw(curves, args.steps, caption(curves)))
    print("error in percent; training: of the last steps' batches\n\n" + table + "\n")
    for line in verdicts(curves):
        print(line)
    print(f"\ncurves, table and figure are in {args.output}")
    return 0


def title(spec: NetSpec) -> str:
    """A network's name in the table."""
    return f"{spec.kind} {spec.depth}" + (" (projection)" if spec.shortcut == "projection" else "")


def caption(curves: Sequence[Curve]) -> str:
    """The line below the figure."""
    seeds = len({c.spec.seed for c in curves})
    return f"Objects of the embedded set at {SIZE}×{SIZE} pixels. Thin: each of {seeds} seeds; thick: their mean."


if __name__ == "__main__":
    command.run(main)
