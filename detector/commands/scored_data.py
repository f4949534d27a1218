"""What `evaluate` scores on: annotations, a split of a folder, or the data of the run that made the weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import UserError

if TYPE_CHECKING:
    from detector.datasets.dataset import DetectionDataset


def first_of_a_run(weights: Sequence[str]) -> str:
    """Of several weights, the first that lie in the folder of a training run; else the first of all."""
    from detector.weights.run_config import find_run_config

    return next((one for one in weights if find_run_config(one) is not None), weights[0])


def open_scored_data(args: argparse.Namespace, weights: str | None) -> DetectionDataset:
    """What is scored on: --annotations, a split of `data=FOLDER`, or one of the run that made the weights.

    Which data that run had, config.yaml beside the weights says; nothing is rendered, nor written, because a file says
    so. A val split that was held out of its training pictures is held out again.
    """
    from detector.config import Config, override_config
    from detector.datasets.formats.open_dataset import guess_format, open_dataset
    from detector.datasets.layouts.apply import describe_layout, describe_splits, take_data_word, with_layout
    from detector.datasets.splits import open_split, split_paths
    from detector.process_group import is_main
    from detector.weights.run_config import read_run_config

    if args.annotations is not None:
        return open_dataset(guess_format(args.annotations), args.annotations, args.images)
    run = None if weights is None else read_run_config(weights)
    words, layout = take_data_word(args.settings)
    split = args.split or "val"
    if layout is not None:
        data = with_layout((Config() if run is None else run[1]).data, layout)
        if args.split is None and "train" not in layout.splits:
            split = next(iter(layout.splits))  # the one that there is
        dataset = open_split(data, split)
        if is_main():
            print(*describe_layout(layout), describe_splits(data, {split: dataset}), "", sep="\n")
        return dataset
    if run is None:
        raise UserError(
            f"{weights}: no config.yaml of a training run lies beside it, so its {split} split is not known; give "
            "--annotations and --images, or data=FOLDER."
        )
    path, run_config = run
    data = override_config(run_config, words).data
    paths = split_paths(data, split)
    if paths is None and not (split == "val" and data.hold_out):
        raise UserError(f"{path}: names no {split} split; give --annotations and --images, or data=FOLDER.")
    if data.generate == "shapes" and paths is not None and not Path(paths[0]).is_file():
        raise UserError(
            f"{paths[0]}, of the embedded set that {path} names, is not there; training renders it, or give "
            "--annotations and --images."
        )
    return open_split(data, split, drop_degenerate_boxes=True)
