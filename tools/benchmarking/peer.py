"""The peer: torchvision's Faster R-CNN, and ours of its weights.

torchvision has no C4 model; this is how one is put together from its public parts. Of FPN the peer is its own model, as
`fasterrcnn_resnet50_fpn` makes it for trained weights. Its random weights are calibrated on a
picture, so that activations keep unit scale through all layers, proposals differ, and detections exist: speed depends
on all three.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

from detector.config import Config
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import Size
from detector.weights.lineages.torchvision_detector import from_torchvision_detector, torchvision_detector_config
from detector.weights.lineages.torchvision_pyramid import from_torchvision_pyramid, torchvision_pyramid_config

Kind = Literal["c4", "fpn"]

ANCHOR_SIZES, ANCHOR_RATIOS = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
PRE_NMS = 6000  # of the lineage; torchvision's default of 1000 could not give 1000 proposals
SEED = 0
CALIBRATION_PROPOSALS = 64  # enough for statistics

# Deviations of the outputs: objectness and box deltas that spread proposals; scores of which some hundred pass 0.05.
OBJECTNESS, ANCHOR_DELTAS, CLASS_LOGITS, BOX_DELTAS = 2.0, 0.2, 1.3, 1.0

Adjust = Callable[[Any, tuple[Tensor]], None]  # a module before it runs, and its inputs


@dataclass(frozen=True)
class Pair:
    """The same network twice. peer: takes a list of [3, H, W] float pictures in 0..1. model, config: ours."""

    peer: nn.Module
    model: FasterRCNN
    config: Config


def build_pair(
    picture: Tensor,
    size: Size,
    depth: int,
    num_classes: int,
    proposals: int,
    rois: int = 512,
    kind: Kind = "c4",
) -> Pair:
    """Both networks, in evaluation mode, with the same random weights.

    Args:
        picture: [3, H, W] uint8 RGB, to calibrate the weights on; it may be small.
        size: of the pictures that are to be detected, which the peer then leaves at their size.
        depth: of the ResNet.
        num_classes: K foreground classes.
        proposals: RoIs per image at test time.
        rois: sampled per image in training.
        kind: of model.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        build = build_peer if kind == "c4" else build_pyramid_peer
        peer = build(size, depth, num_classes, proposals, rois)
        calibrate(peer, picture)
    tensors = peer.state_dict()
    if kind == "c4":
        config = torchvision_detector_config(depth, num_classes, ANCHOR_SIZES, ANCHOR_RATIOS)
        rpn = replace(config.model.rpn, pre_nms_top_n_test=PRE_NMS, post_nms_top_n_test=proposals)
    else:
        config = torchvision_pyramid_config(tensors, "the peer")
        rpn = replace(config.model.rpn, post_nms_top_n_test=proposals)
    roi = replace(config.model.roi, batch_size_per_image=rois)
    pixels = replace(config.input, min_size_test=min(size), max_size_test=max(size))
    config = replace(config, model=replace(config.model, rpn=rpn, roi=roi), input=pixels)
    model = build_model(config)
    model.load_state_dict(as_ours(tensors, config))
    return Pair(peer.eval(), model.eval(), config)


def as_ours(tensors: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The peer's tensors, or their gradients, by our names and in our order. config: ours, of the same network."""
    convert = from_torchvision_detector if config.model.kind == "c4" else from_torchvision_pyramid
    return convert(tensors, config, "the peer")


def build_peer(size: Size, depth: int, num_classes: int, proposals: int, rois: int) -> nn.Module:
    """torchvision's FasterRCNN as C4, its arguments those of its own defaults but for the numbers of regions."""
    resnet = getattr(torchvision.models, f"resnet{depth}")(weights=None, norm_layer=FrozenBatchNorm2d)
    backbone = nn.Sequential(
        resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1, resnet.layer2, resnet.layer3
    )
    for frozen in (resnet.conv1, resnet.layer1):
        frozen.requires_grad_(False)
    channels = resnet.fc.in_features
    backbone.out_channels = channels // 2
    return TorchvisionFasterRCNN(
        backbone,
        min_size=min(size),
        max_size=max(size),
        rpn_anchor_generator=AnchorGenerator((ANCHOR_SIZES,), (ANCHOR_RATIOS,)),
        rpn_pre_nms_top_n_test=PRE_NMS,
        rpn_post_nms_top_n_test=proposals,
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=2),
        box_head=nn.Sequential(resnet.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        box_batch_size_per_image=rois,
        box_predictor=FastRCNNPredictor(channels, num_classes + 1),
    )


def build_pyramid_peer(size: Size, depth: int, num_classes: int, proposals: int, rois: int) -> nn.Module:
    """torchvision's own model over a pyramid, its arguments its defaults but for the numbers of regions."""
    backbone = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    return TorchvisionFasterRCNN(
        backbone,
        num_classes + 1,
        min_size=min(size),
        max_size=max(size),
        rpn_post_nms_top_n_test=proposals,
        box_batch_size_per_image=rois,
    )


def as_peer_input(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A [3, H, W] uint8 picture as the peer wants it."""
    return pixels.to(dtype) / 255


def peer_inputs(pixels: Tensor, device: torch.device) -> list[Tensor]:
    """Its pictures in the host's memory, from where they go to the device fast; pixels: [N, 3, H, W] uint8."""
    inputs = [as_peer_input(picture) for picture in pixels]
    return [picture.pin_memory() for picture in inputs] if device.type == "cuda" else inputs


@torch.inference_mode()
def calibrate(peer: nn.Module, picture: Tensor) -> None:
    """Give every norm the statistics of its input, and every output layer outputs of a useful size.

    The norms that end a branch get small factors, so that sums over many blocks keep their scale.
    """
    peer.eval()
    theirs = cast(Any, peer)
    proposals, testing = theirs.rpn._post_nms_top_n, theirs.transform.min_size
    theirs.rpn._post_nms_top_n = proposals | {"testing": CALIBRATION_PROPOSALS}
    theirs.transform.min_size = (min(picture.shape[1:]),)
    norms = {name: module for name, module in peer.named_modules() if isinstance(module, FrozenBatchNorm2d)}
    last = "bn3" if any(name.endswith("bn3") for name in norms) else "bn2"
    for name, norm in norms.items():
        norm.weight.fill_(0.3 if name.endswith(last) else 1.0)
    _run_adjusting(peer, picture, dict.fromkeys(norms.values(), _take_statistics))
    head, predictor = theirs.rpn.head, theirs.roi_heads.box_predictor
    _run_adjusting(
        peer, picture, {head.cls_logits: _rescale_to(OBJECTNESS), head.bbox_pred: _rescale_to(ANCHOR_DELTAS)}
    )
    _run_adjusting(
        peer, picture, {predictor.cls_score: _rescale_to(CLASS_LOGITS), predictor.bbox_pred: _rescale_to(BOX_DELTAS)}
    )
    theirs.rpn._post_nms_top_n, theirs.transform.min_size = proposals, testing


def _run_adjusting(peer: nn.Module, picture: Tensor, adjust: Mapping[Any, Adjust]) -> None:
    """Run once; before each of these modules first runs, adjust it to its input: of a pyramid, to its largest map."""
    done = set()

    def adjust_once(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if module not in done:
            done.add(module)
            adjust[module](module, inputs)

    hooks = [module.register_forward_pre_hook(adjust_once) for module in adjust]
    peer([as_peer_input(picture)])
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: FrozenBatchNorm2d, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _rescale_to(deviation: float) -> Adjust:
    """Make a layer's outputs have this deviation, and mean 0, in every channel on average."""

    def rescale(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor]) -> None:
        assert layer.bias is not None
        layer.bias.zero_()
        outputs = layer.forward(inputs[0]).movedim(1, -1).flatten(0, -2)
        scale = deviation / outputs.std(dim=0).mean()
        layer.weight.mul_(scale)
        layer.bias.copy_(-outputs.mean(dim=0) * scale)

    return rescale
