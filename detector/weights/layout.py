"""Names and shapes of our state dict, taken from the model itself, and its parts."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from detector.config import Config
from detector.errors import UserError
from detector.model.build import build_model

CONV1 = "backbone.conv1.weight"
LAST_STAGE = "roi_head.conv5_x."
BACKBONE_PREFIXES = ("backbone.", LAST_STAGE)  # what an ImageNet network has
CLS_SCORE = ("roi_head.cls_score.weight", "roi_head.cls_score.bias")
BBOX_PRED = ("roi_head.bbox_pred.weight", "roi_head.bbox_pred.bias")


def model_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict of the model that `config` describes, without allocating it.

    Raises:
        UserError: `model.num_classes` is not set.
    """
    with torch.device("meta"):
        model = build_model(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def backbone_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The part of `model_shapes` that ImageNet weights fill: conv1 … conv4_x and the head's conv5_x."""
    headless = replace(config, model=replace(config.model, num_classes=1))
    return {name: shape for name, shape in model_shapes(headless).items() if name.startswith(BACKBONE_PREFIXES)}


def imagenet_shapes(config: Config, in_file: bool, where: str) -> dict[str, tuple[int, ...]]:
    """The part of `backbone_shapes` that an ImageNet network with batch norms can fill.

    Without conv5_x where the file has none (`in_file`), or where the config gives conv5_x a group norm, whose
    network is another one: it then starts fresh.

    Raises:
        UserError: the config gives the backbone group norms, which have no place for statistics.
    """
    backbone = config.model.backbone
    if backbone.norm == "group":
        raise UserError(
            f"{where}: these weights have batch norms; set model.backbone.norm to frozen_batch or batch, "
            "or train from scratch."
        )
    shapes = backbone_shapes(config)
    if in_file and backbone.conv5_norm != "group":
        return shapes
    return {name: shape for name, shape in shapes.items() if not name.startswith(LAST_STAGE)}


def has_thresholds(names: Iterable[str]) -> bool:
    """Whether blocks with thresholds (`model.backbone.shrinkage`) are among our names."""
    return any(".shrink." in name for name in names)


def has_last_stage(names: Iterable[str]) -> bool:
    """Whether conv5_x is among our names."""
    return any(name.startswith(LAST_STAGE) for name in names)
