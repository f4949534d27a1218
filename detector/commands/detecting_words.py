"""How a model will detect, in words: what `predict` and `evaluate` say alike before they begin."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detector.commands.tile_words import tiling_of
from detector.printing import printable

if TYPE_CHECKING:
    from detector.inference.augmented import Detecting
    from detector.inference.predictor import Predictor


def describe_detecting(
    args: argparse.Namespace,
    predictor: Predictor,
    detecting: Detecting,
    batch_size: int,
    column: int,
    settings: Sequence[str] = (),
) -> list[str]:
    """The device, the views of each picture, settings without effect and tiles, a line each, for people.

    Args:
        args: the command's.
        detecting: the predictor's network with the views that `args` ask for.
        batch_size: pictures at a time.
        column: at which what is said of each begins.
        settings: that were given, as words `key=value`.
    """
    from detector import process_group
    from detector.inference.augmented import describe_looks
    from detector.inference.void_detection import void_detection_settings

    count = process_group.world_size()
    processes = f" in each of {count} processes" if count > 1 else ""
    said = [("device", f"{predictor.device}, {predictor.precision}, {batch_size} at a time{processes}")]
    if looks := describe_looks(detecting.network):
        said.append(("augment", looks))
    said += [("void", line) for line in void_detection_settings(predictor.config.model.detection, args.augment)]
    said += [("void", f"{printable(word)}: it belongs to training.") for word in settings if _is_of_training(word)]
    if tiling := tiling_of(args):
        said.append(
            ("tiles", f"{tiling.size} × {tiling.size} pixels, {tiling.overlap:.0%} shared, and the whole picture")
        )
    return [f"{what:<{column}}{line}" for what, line in said]


def _is_of_training(word: str) -> bool:
    """Whether a word changes settings that detection never reads."""
    from detector.config import read_words

    return all(name.startswith(("train.", "data.augment.", "data.repeat_threshold")) for name in read_words([word]))
