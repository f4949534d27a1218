"""What the experiments share: their words, and training all their networks."""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from detector import command
from detector.datasets.shapes.on_disk import available_processors
from detector.disk import write_atomically
from experiments.crops import CropSets, load_crops
from experiments.curves import BATCH, Curve, NetSpec, train_net
from experiments.runs import run_all

SIZE = 16  # pixels of a crop's edge


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """The words that every experiment takes. name: of its folder under output."""
    parser.add_argument("--output", type=Path, default=Path("output") / name, help="folder (default: %(default)s)")
    parser.add_argument("--seeds", nargs="+", type=command.whole, default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--steps", type=command.positive, default=1500, help="of each network (default: %(default)s)")
    parser.add_argument("--width", type=command.positive, default=8, help="of the first stage (default: %(default)s)")
    parser.add_argument("--processes", type=command.positive, help="at a time (default: one a processor)")
    parser.add_argument("--data", type=Path, default=Path("data/shapes"), help="the embedded set (%(default)s)")


def train_all(
    args: argparse.Namespace,
    specs: Sequence[NetSpec],
    title: Callable[[NetSpec], str],
    change: Callable[[CropSets], CropSets] = lambda crops: crops,
) -> list[Curve]:
    """Train the networks and write `curves.json`, as far as they are trained, to the output folder.

    Args:
        args: of `add_arguments`.
        specs: the networks, the longest in training first.
        title: a network's name.
        change: what is done to the crops first.

    Returns:
        A curve of each network, in the order of `specs`.
    """
    processes = min(args.processes or available_processors(), len(specs))
    print(f"networks    {len(specs)}: {', '.join(dict.fromkeys(map(title, specs)))}; seeds {args.seeds}")
    print(f"schedule    {args.steps} steps of {BATCH} crops; {processes} processes of one thread each")
    print(f"data        objects of {args.data}, {SIZE}×{SIZE} pixels\noutput      {args.output}", flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    crops = change(load_crops(args.data, SIZE))
    print(f"crops       {len(crops.train.labels)} to train on, {len(crops.val.labels)} of val", flush=True)
    started = time.perf_counter()
    curves: list[Curve] = []
    for curve in run_all(partial(train_net, crops=crops, steps=args.steps), specs, args.steps, processes):
        curves.append(curve)
        write(args.output / "curves.json", json.dumps([dataclasses.asdict(c) for c in curves], indent=1))
    minutes, processor = (time.perf_counter() - started) / 60, sum(c.seconds for c in curves) / 60
    print(f"{minutes:.1f} minutes, {processor:.1f} of processor time\n")
    return sorted(curves, key=lambda c: specs.index(c.spec))


def write(path: Path, text: str) -> None:
    """Put a text into a file, whole or not at all."""
    write_atomically(path, text.encode())
