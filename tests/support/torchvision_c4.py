"""torchvision's own FasterRCNN, assembled as C4 with random weights that find dozens of objects in noise."""

from functools import partial
from typing import Any

import torch
import torchvision
from tiny_models import rescale_outputs
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

SIZES, RATIOS = (16.0, 32.0, 64.0, 128.0), (0.5, 1.0, 2.0)


def build(depth: int, num_classes: int, seed: int = 0, **settings: Any) -> FasterRCNN:
    """In evaluation mode.

    Args:
        num_classes: K foreground classes.
        settings: more arguments of `FasterRCNN`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        resnet = getattr(torchvision.models, f"resnet{depth}")(weights=None, norm_layer=FrozenBatchNorm2d)
        randomize_norms(resnet)
        backbone = nn.Sequential(
            resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1, resnet.layer2, resnet.layer3
        )
        channels = resnet.fc.in_features
        backbone.out_channels = channels // 2
        model = FasterRCNN(
            backbone,
            rpn_anchor_generator=AnchorGenerator((SIZES,), (RATIOS,)),
            box_roi_pool=MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=2),
            box_head=nn.Sequential(resnet.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            box_predictor=FastRCNNPredictor(channels, num_classes + 1),
            **settings,
        )
        calibrate(model.eval())
    return model


def randomize_norms(resnet: nn.Module) -> None:
    """Random statistics and affine maps; small ones where a block ends, so that sums of many stay small."""
    last = "bn3" if any(name.endswith("bn3") for name, _ in resnet.named_modules()) else "bn2"
    for name, module in resnet.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.2, 0.5) if name.endswith(last) else module.weight.uniform_(0.7, 1.3)
            module.bias.normal_(0, 0.1)


@torch.inference_mode()
def calibrate(model: FasterRCNN) -> None:
    """Scale the four output layers so that logits and deltas have useful sizes."""
    picture = nn.functional.interpolate(torch.rand(1, 3, 12, 16), size=(96, 128), mode="bilinear")[0]
    head, predictor = model.rpn.head, model.roi_heads.box_predictor
    for layers in ({head.cls_logits: 2.0, head.bbox_pred: 0.2}, {predictor.cls_score: 1.0, predictor.bbox_pred: 1.0}):
        outputs: dict[nn.Module, Tensor] = {}
        hooks = [layer.register_forward_hook(partial(note_rows, outputs)) for layer in layers]
        model([picture])
        for hook in hooks:
            hook.remove()
        for layer, deviation in layers.items():
            rescale_outputs(layer, outputs[layer], deviation)


def note_rows(outputs: dict[nn.Module, Tensor], layer: nn.Module, _inputs: object, output: Tensor) -> None:
    """Keep a layer's output as one row a position and one column a channel."""
    outputs[layer] = output.movedim(1, -1).flatten(0, -2)
