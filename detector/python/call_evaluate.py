"""Scoring called from Python."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from detector.commands import evaluate as command
from detector.python.settings_words import arguments_of, words_of

StrPath = str | os.PathLike[str]


def evaluate(
    weights: StrPath | Sequence[StrPath] | None = None,
    *,
    data: StrPath | None = None,
    split: Literal["train", "val", "test"] | None = None,
    annotations: StrPath | None = None,
    images: StrPath | None = None,
    detections: StrPath | None = None,
    output: StrPath | None = None,
    report: bool = False,
    config: StrPath | None = None,
    boxes_only: bool = False,
    augment: bool = False,
    device: str = "auto",
    batch_size: int | None = None,
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto",
    plain: bool = False,
    tile: int | None = None,
    tile_overlap: float | None = None,
    compile: bool = False,
    num_workers: int | None = None,
    evaluator: Literal["pycocotools", "hotcoco"] = "pycocotools",
    **settings: Any,
) -> dict[str, Any]:
    """COCO mAP of a model, or of a file of detections, as the command `faster-rcnn evaluate` prints it.

    Args:
        weights: a `.safetensors`, a published name, or another framework's file with `config`; several detect together.
        boxes_only: of a Mask or Keypoint R-CNN, its box branch.
        augment: look at each picture several times, as `Predictor.predict` does.
        data: a folder of annotated pictures as `train` takes it; None: the data of the run that made the weights.
        split: of that data (default: val).
        annotations, images: ground truth and its pictures, in the place of `data`.
        detections: a COCO results file to score in the place of a model.
        output: folder for `metrics.json` and, of a model, `detections.json`.
        report: write `report.html` and `report.csv` there too: where the model is wrong.
        tile, tile_overlap: look at larger pictures tile by tile too; a tile's edge in pixels of the original, and the
            share of it that neighbours have in common.
        settings: of the weights' config to change, as `train` takes them.

    Returns:
        COCO's twelve numbers by name (`AP`, `AP50`, …) as fractions in [0, 1], −1 without ground truth, and
        `per_class`; and `unreadable_images` where pictures could not be read, whose objects count as missed. Empty in
        other processes than torchrun's first.

    Raises:
        UserError: something given cannot be used.
    """
    several = [os.fspath(one) for one in ([weights] if isinstance(weights, str | os.PathLike) else weights or ())]
    metrics = command.measure(
        arguments_of(
            command.add_arguments,
            weights=None if weights is None else several,
            boxes_only=boxes_only,
            augment=augment,
            config=None if config is None else os.fspath(config),
            detections=_path(detections),
            annotations=_path(annotations),
            images=_path(images),
            split=split,
            output=_path(output),
            report=report,
            evaluator=evaluator,
            device=device,
            plain=plain,
            tile=tile,
            tile_overlap=tile_overlap,
            precision=precision,
            compile=compile,
            batch_size=batch_size,
            num_workers=num_workers,
            settings=words_of(data, settings),
        )
    )
    return {} if metrics is None else metrics.to_dict()


def _path(value: StrPath | None) -> Path | None:
    return None if value is None else Path(value).expanduser()
