"""What `evaluate` scores on: annotations, a split of a folder, or the data of the run that made the weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import UserError

if TYPE_CHECKING:
    from detector.config import DataConfig, InputConfig
    from detector.datasets.dataset import DetectionDataset
    from detector.evaluation.ground_truth import GroundTruth
    from detector.evaluation.report.worst import ShowPicture


def first_of_a_run(weights: Sequence[str]) -> str:
    """Of several weights, the first that lie in the folder of a training run; else the first of all."""
    from detector.weights.run_config import find_run_config

    return next((one for one in weights if find_run_config(one) is not None), weights[0])


@dataclass(frozen=True)
class ScoredData:
    """What is scored on, known to be there and not yet read.

    data: the settings that name it. split: which of it; drop_degenerate_boxes: as `open_split` takes it.
    notes: what was understood of a folder, for people.
    """

    data: DataConfig
    split: str
    drop_degenerate_boxes: bool | None = None
    notes: tuple[str, ...] = ()

    def open(self) -> DetectionDataset:
        """Read it, and print what a folder was understood as and how much of it is ignored.

        Raises:
            UserError: it cannot be used.
        """
        from detector.datasets.formats.contents import count_ignored
        from detector.datasets.layouts.apply import describe_splits
        from detector.datasets.splits import open_split
        from detector.process_group import is_main

        dataset = open_split(self.data, self.split, self.drop_degenerate_boxes)
        ignored = int(dataset.iscrowd.sum())
        if self.notes and is_main():
            print(*self.notes, describe_splits(self.data, {self.split: dataset}), "", sep="\n")
        elif ignored and is_main():
            print(count_ignored(ignored, self.data.format))
        return dataset


def find_scored_data(args: argparse.Namespace, weights: str | None) -> ScoredData:
    """What is scored on: --annotations, a split of `data=FOLDER`, or one of the run that made the weights.

    Which data that run had, config.yaml beside the weights says; nothing is rendered, nor written, because a file says
    so. A val split that was held out of its training pictures is held out again.

    Raises:
        UserError: it is not there, or nothing says what it is. No annotations are read for that.
    """
    from detector.config import Config, DataConfig, override_config
    from detector.datasets.formats.open_dataset import guess_format
    from detector.datasets.formats.yolo_splits import is_there
    from detector.datasets.layouts.apply import describe_layout, take_data_word, with_layout
    from detector.datasets.splits import split_paths
    from detector.weights.run_config import read_run_config

    if args.annotations is not None:
        paths = (str(args.annotations), str(args.images))
        data = DataConfig(format=guess_format(args.annotations), val_annotations=paths[0], val_images=paths[1])
        return ScoredData(data, "val")
    run = None if weights is None else read_run_config(weights)
    words, layout = take_data_word(args.settings)
    split = args.split or "val"
    if layout is not None:
        before = Config() if run is None else run[1]
        of_data = [word for word in words if word.startswith("data.")]
        data = override_config(replace(before, data=with_layout(before.data, layout)), of_data).data
        if args.split is None and "train" not in layout.splits:
            split = next(iter(layout.splits))  # the one that there is
        if split == "train":
            layout.require_train()
        require_split(data, split, str(layout.source))
        notes = describe_layout(layout)
        if split not in layout.splits or (split == "train" and data.hold_out):
            notes.append(
                "it has no val split, so a part of it is scored, which training holds out; all of it: --split train "
                "data.hold_out=0"
            )
        return ScoredData(data, split, notes=tuple(notes))
    if run is None:
        raise UserError(
            f"{weights}: no config.yaml of a training run lies beside it, so its {split} split is not known; give "
            "--annotations and --images, or data=FOLDER."
        )
    path, run_config = run
    data = override_config(run_config, words).data
    require_split(data, split, str(path))
    there = split_paths(data, split) or ()
    if data.generate == "shapes" and there and not Path(there[0]).is_file():
        raise UserError(
            f"{there[0]}, of the embedded set that {path} names, is not there; training renders it, or give "
            "--annotations and --images."
        )
    for missing in (one for one in there if not is_there(one)):
        raise UserError(
            f"{missing}, which {path} names, is not there; restore it, or give --annotations and --images, or "
            "data=FOLDER."
        )
    return ScoredData(data, split, drop_degenerate_boxes=True)


def require_split(data: DataConfig, split: str, source: str) -> None:
    """Raise UserError unless the settings, which `source` says, name the split or have it held out."""
    from detector.datasets.splits import split_paths

    if split_paths(data, split) is None and not (split == "val" and data.hold_out):
        there = [one for one in ("train", "val", "test") if split_paths(data, one) is not None]
        others = f", or choose {' or '.join(there)} with --split" if there else ""
        raise UserError(f"{source}: names no {split} split; give --annotations and --images, or data=FOLDER{others}.")


def given_truth(
    annotations: Path, images: Path | None, settings: InputConfig | None = None
) -> tuple[GroundTruth, ShowPicture]:
    """The ground truth of annotations of any format, and their pictures by their ids.

    Args:
        images: the folder of pictures; None will do for COCO, and shows none.
        settings: of the network as which the pictures are read.

    Raises:
        UserError: they cannot be read, or need their pictures.
    """
    from detector.datasets.formats.contents import count_ignored
    from detector.datasets.formats.open_dataset import guess_format, open_dataset
    from detector.evaluation.ground_truth import ground_truth_of, read_ground_truth
    from detector.evaluation.report.worst import no_pictures, pictures_in, pictures_of

    data_format = guess_format(annotations)
    if images is not None and not images.is_dir():
        raise UserError(f"{images}: no such folder of pictures; check --images, or leave it out.")
    if data_format == "coco":
        truth = read_ground_truth(annotations)
        return truth, no_pictures if images is None else pictures_in(images, truth, settings)
    if images is None:
        raise UserError(f"{annotations}: these annotations need their pictures; give --images.")
    dataset = open_dataset(data_format, annotations, images)
    truth, ignored = ground_truth_of(dataset), int(dataset.iscrowd.sum())
    notes = (*truth.notes, *([count_ignored(ignored, data_format)] if ignored else []))
    return replace(truth, notes=notes), pictures_of(dataset, settings)
