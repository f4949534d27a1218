"""torchvision's own `fasterrcnn_resnet50_fpn` and `_v2` with random weights that find dozens of objects in noise."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision_c4 import calibrate

Make = Callable[..., FasterRCNN]


def v1(**settings: Any) -> FasterRCNN:
    """As it is built without any weights: with live batch norms."""
    return detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, **settings)


def v1_frozen(**settings: Any) -> FasterRCNN:
    """As it is built around ImageNet weights: with frozen batch norms."""
    model = v1(**settings)
    freeze_norms(model.backbone.body)
    return model


def v1_published(**settings: Any) -> FasterRCNN:
    """As it is with its published weights: the epsilon of its frozen batch norms is 0."""
    model = v1_frozen(**settings)
    overwrite_eps(model, 0.0)
    return model


def v2(**settings: Any) -> FasterRCNN:
    """As it is built without any weights."""
    return detection.fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **settings)


def freeze_norms(module: nn.Module) -> None:
    """Put a frozen batch norm of torchvision in the place of every live one."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            freeze_norms(child)


def build(make: Make, num_classes: int, seed: int = 0, **settings: Any) -> FasterRCNN:
    """In evaluation mode.

    Args:
        num_classes: K foreground classes.
        settings: more arguments of `FasterRCNN`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make(num_classes=num_classes + 1, **settings)
        randomize_norms(model)
        calibrate(model.eval())
        with (
            torch.no_grad()
        ):  # scores of 1.0, of which there are many else, would leave the order of proposals to chance
            model.rpn.head.cls_logits.weight.mul_(0.2)
    return model


def randomize_norms(model: nn.Module) -> None:
    """Random statistics and affine maps; small ones where a block ends. In conv1's norm the epsilon matters."""
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            is_last = name.endswith("bn3")
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.2, 0.5) if is_last else module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.1)
                if name.endswith("body.bn1"):
                    module.running_var[::4] = 2e-4
                    module.weight[::4] *= 0.02
