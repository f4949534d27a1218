#!/usr/bin/env python
"""Do soft thresholds help under noise? Residual networks with and without them, on noisy crops of the embedded set."""

import argparse
from collections.abc import Sequence
from functools import partial

from experiments.cifar_net import blocks_per_stage
from experiments.crops import with_noise
from experiments.curves import Curve, NetSpec
from experiments.experiment import SIZE, add_arguments, train_all, write
from experiments.table import error_table, percent

from detector import command

NOISE_SEED = 2020
EXAMPLES = """examples:
  python tools/shrinkage.py                 20 layers, noise of 64 grey levels, three seeds
  python tools/shrinkage.py --noise 0       the same without noise
  python tools/shrinkage.py --seeds 0 --steps 50 --depth 8    does it work? (too short to show anything)

The networks are those of tools/degradation.py with identity shortcuts; `channel` and `shared` are the blocks of
model.backbone.shrinkage. The noise is that of the data: each crop has its own, the same whenever it is seen. A gain is
one only if the error on val is lower with every seed."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command line, or of this process where there are none; exits with code 2 on wrong ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "shrinkage")
    parser.add_argument("--depth", type=int, default=20, help="layers, 6n + 2 (default: %(default)s)")
    parser.add_argument("--noise", type=command.whole, default=64, help="deviation in grey levels (%(default)s)")
    return parser.parse_args(arguments)


def plan(args: argparse.Namespace) -> list[NetSpec]:
    """The networks to train. Raises UserError for a depth that networks of this form do not have."""
    blocks_per_stage(args.depth)
    return [
        NetSpec(args.depth, args.width, "identity", seed, shrinkage)
        for seed in dict.fromkeys(args.seeds)
        for shrinkage in ("channel", "shared", None)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the networks; write the curves and the table."""
    args = parse_arguments(arguments)
    specs = plan(args)
    print(f"noise       {args.noise} grey levels, crops of {SIZE}×{SIZE}")
    curves = train_all(args, specs, title, partial(with_noise, deviation=args.noise, seed=NOISE_SEED))
    curves.sort(key=lambda c: (("none", "channel", "shared").index(c.spec.shrinkage or "none"), c.spec.seed))
    table = error_table(curves, lambda curve: title(curve.spec))
    write(args.output / "table.md", table + "\n")
    print("error in percent; training: of the last steps' batches\n\n" + table + "\n")
    for line in verdicts(curves):
        print(line)
    print(f"\ncurves and table are in {args.output}")
    return 0


def title(spec: NetSpec) -> str:
    """A network's name in the table."""
    return f"residual {spec.depth}, shrinkage {spec.shrinkage or 'none'}"


def verdicts(curves: Sequence[Curve]) -> list[str]:
    """For each kind of thresholds whether its error on val is lower with every seed, and what the errors are."""
    val = {(c.spec.shrinkage, c.spec.seed): c.val for c in curves}
    seeds = sorted({c.spec.seed for c in curves})
    lines = []
    for kind in dict.fromkeys(c.spec.shrinkage for c in curves if c.spec.shrinkage):
        better = sum(val[kind, seed] < val[None, seed] for seed in seeds)
        outcome = "a gain" if better == len(seeds) else "no gain" if better == 0 else "neither gain nor loss is shown"
        pairs = ", ".join(f"{percent(val[None, seed])} → {percent(val[kind, seed])} %" for seed in seeds)
        lines.append(f"shrinkage {kind}: lower with {better} of {len(seeds)} seeds ({pairs}): {outcome}")
    return lines


if __name__ == "__main__":
    command.run(main)
