"""Names and shapes of our state dict, taken from the model itself, and its parts."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from detector.config import Config
from detector.errors import UserError
from detector.model.build import build_model

CONV1 = ("backbone.conv1.weight", "backbone.body.conv1.weight")  # the second one under a feature pyramid
# What an ImageNet network has: conv1 … conv4_x, and conv5_x in the backbone or, of a C4 model, in the head.
LAST_STAGE = ("roi_head.conv5_x.", "backbone.conv5_x.", "backbone.body.conv5_x.")
PYRAMID = ("backbone.lateral.", "backbone.output.")  # what it has not
CLS_SCORE = ("roi_head.cls_score.weight", "roi_head.cls_score.bias")
BBOX_PRED = ("roi_head.bbox_pred.weight", "roi_head.bbox_pred.bias")
CONTEXT_SCORES, CONTEXT_BOXES = "roi_head.context.cls_score.weight", "roi_head.context.bbox_pred.weight"
BY_CLASS = (*CLS_SCORE, *BBOX_PRED, CONTEXT_SCORES, CONTEXT_BOXES)  # whose rows belong to classes
FOUR_BY_CLASS = (*BBOX_PRED, CONTEXT_BOXES)  # four of them to each, and none to the background


def model_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict of the model that `config` describes, without allocating it.

    Raises:
        UserError: `model.num_classes` is not set.
    """
    with torch.device("meta"):
        model = build_model(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def conv1_name(names: Iterable[str]) -> str:
    """What the weight of the first convolution is called among our names."""
    return next(name for name in names if name in CONV1)


def is_of_resnet(name: str) -> bool:
    """Whether a tensor of ours is one of conv1 … conv5_x, which ImageNet weights fill."""
    return name.startswith(("backbone.", *LAST_STAGE)) and not name.startswith(PYRAMID)


def resnet_name(name: str) -> str:
    """What a tensor of conv1 … conv5_x is called in its ResNet, whatever kind of model has it: `conv1.weight`."""
    for prefix in ("backbone.body.", "backbone.", "roi_head."):
        name = name.removeprefix(prefix)
    return name


def is_of_last_stage(name: str) -> bool:
    """Whether a tensor of ours is one of conv5_x."""
    return name.startswith(LAST_STAGE)


def backbone_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The part of `model_shapes` that ImageNet weights fill: conv1 … conv5_x."""
    headless = replace(config, model=replace(config.model, num_classes=1))
    return {name: shape for name, shape in model_shapes(headless).items() if is_of_resnet(name)}


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
    return {name: shape for name, shape in shapes.items() if not is_of_last_stage(name)}


def has_thresholds(names: Iterable[str]) -> bool:
    """Whether blocks with thresholds (`model.backbone.shrinkage`) are among our names."""
    return any(".shrink." in name for name in names)


def has_last_stage(names: Iterable[str]) -> bool:
    """Whether conv5_x is among our names."""
    return any(is_of_last_stage(name) for name in names)
