"""Small networks with random weights whose activations keep unit scale and which find dozens of objects in noise."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detector.config import (
    BackboneConfig,
    Config,
    DetectionConfig,
    FPNConfig,
    InputConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
)
from detector.model.blocks import FrozenBatchNorm2d
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import ImageBatch, Size


def tiny_config(
    num_classes: int = 3,
    backbone: dict[str, Any] | None = None,
    rpn: dict[str, Any] | None = None,
    roi: dict[str, Any] | None = None,
    detection: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    kind: Literal["c4", "fpn", "dc5"] = "c4",
    fpn: dict[str, Any] | None = None,
) -> Config:
    """The lineage's settings at an eighth of the width or less, with anchors and numbers for pictures of 100 pixels."""
    if kind != "c4":
        roi = {"pooled_size": 7, "fc_channels": 32} | (roi or {})
    if kind == "fpn":
        rpn = {"anchor_sizes": (8.0, 16.0, 32.0, 64.0, 96.0)} | (rpn or {})
        inputs = {"pad_to_multiple": 32} | (inputs or {})
        fpn = {"channels": 16} | (fpn or {})
    return Config(
        model=ModelConfig(
            num_classes=num_classes,
            kind=kind,
            fpn=FPNConfig(**fpn or {}),
            backbone=BackboneConfig(**{"depth": 18, "stem_channels": 8, "width": 8} | (backbone or {})),
            rpn=RPNConfig(
                **{
                    "anchor_sizes": (16.0, 32.0, 64.0),
                    "pre_nms_top_n_test": 200,
                    "post_nms_top_n_test": 40,
                    "pre_nms_top_n_train": 200,
                    "post_nms_top_n_train": 60,
                    "batch_size_per_image": 32,
                }
                | (rpn or {})
            ),
            roi=RoIConfig(**{"batch_size_per_image": 16} | (roi or {})),
            detection=DetectionConfig(**(detection or {})),
        ),
        input=InputConfig(**{"pixel_std": (58.395, 57.12, 57.375)} | (inputs or {})),
    )


def tiny_model(config: Config, seed: int = 0) -> FasterRCNN:
    """In evaluation mode; the same weights for the same seed, whatever the random state outside."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(config).eval()
        randomize_norms(model)
        calibrate(model, random_batch([(96, 128)], seed=seed))
    return model


def random_batch(sizes: Sequence[Size], seed: int = 0) -> ImageBatch:
    """Pictures of blurred noise of these sizes, padded to one."""
    generator = torch.Generator().manual_seed(seed)
    height, width = max(s[0] for s in sizes), max(s[1] for s in sizes)
    pixels = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    for i, (h, w) in enumerate(sizes):
        coarse = torch.rand(1, 3, h // 8 + 2, w // 8 + 2, generator=generator) * 255
        picture = nn.functional.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=False)[0]
        pixels[i, :, :h, :w] = picture.to(torch.uint8)
    return ImageBatch(pixels, list(sizes), list(sizes), list(range(len(sizes))))


def one_of(batch: ImageBatch, index: int) -> ImageBatch:
    """A batch of one picture without padding."""
    height, width = batch.sizes[index]
    return ImageBatch(
        batch.pixels[index : index + 1, :, :height, :width],
        [batch.sizes[index]],
        [batch.original_sizes[index]],
        [batch.image_ids[index]],
    )


def randomize_norms(model: nn.Module) -> None:
    """Random statistics and affine maps; small ones where a block ends, so that sums of many stay small."""
    for name, module in model.named_modules():
        if isinstance(module, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, (FrozenBatchNorm2d, nn.BatchNorm2d, nn.GroupNorm)):
            low, high = (0.2, 0.5) if name.endswith(("norm2", "norm3")) else (0.7, 1.3)
            module.weight.data.uniform_(low, high)
            module.bias.data.normal_(0, 0.1)


@torch.no_grad()
def calibrate(model: FasterRCNN, images: ImageBatch) -> None:
    """Scale the four output layers so that logits and deltas have useful sizes on these pictures."""
    features = model.features(images)
    logits, deltas = (torch.cat(maps, dim=1) for maps in zip(*model.rpn(features), strict=True))
    rescale_outputs(model.rpn.objectness, logits, 2.0)
    rescale_outputs(model.rpn.anchor_deltas, deltas, 0.2)
    boxes = [p.boxes for p in model.propose(features, images.sizes)]
    rescale_outputs(model.roi_head.cls_score, model.roi_head(features, boxes)[0], 1.5)
    rescale_outputs(model.roi_head.bbox_pred, model.roi_head(features, boxes)[1], 1.0)


def rescale_outputs(layer: nn.Conv2d | nn.Linear, outputs: Tensor, deviation: float) -> None:
    """Make each output of a fresh layer vary by about `deviation` over positions, around a random bias."""
    assert layer.bias is not None
    rows = outputs.reshape(-1, layer.bias.shape[0])
    scale = deviation / rows.std(dim=0).mean()
    layer.weight.mul_(scale)
    layer.bias.copy_(torch.randn_like(layer.bias) * 0.3 * deviation - rows.mean(dim=0) * scale)


def with_model(config: Config, **changes: Any) -> Config:
    """The config with other model settings."""
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))
