"""FPN and DC5, fast: the detections, losses and gradients of the readable path."""

import weakref
from typing import Any

import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor

from detector.fast import roi_levels as roi_levels_module
from detector.fast.box_head import channels_last_columns
from detector.fast.choose import PYRAMID_TILE_BLOCK, TILE_BLOCK
from detector.fast.convolution import Execution
from detector.fast.fpn import FusedPyramid
from detector.fast.fuse import fuse
from detector.fast.roi_levels import _masked, pool_levels
from detector.fast.slots import SlotFasterRCNN
from detector.fast.winograd import WinogradConv
from detector.model.faster_rcnn import FasterRCNN
from detector.model.fpn import FPN
from detector.model.roi_head import FullyConnectedHead
from detector.model.roi_pooling import RoIPooling, indexed_rois, roi_levels
from detector.structures import FeatureMap, Selection, Target
from detector.training.joint import build_joint

KINDS: dict[str, dict[str, Any]] = {
    "fpn": {"kind": "fpn"},
    "dc5": {"kind": "dc5", "backbone": {"depth": 50, "norm": "group", "freeze_stages": 0}},
    "resnext, torchvision's settings": {
        "kind": "fpn",
        "backbone": {"depth": 50, "groups": 2, "width_per_group": 3, "stride_in_1x1": False, "norm_eps": 0.0},
        "rpn": {"rank_by": "sigmoid_after_top_n", "anchor_strides": "measured", "normalize_by": "sampled"},
        "roi": {"aligned": False, "sampling_ratio": 2, "level_rule": "torchvision"},
    },
    "convolutions and norms in the heads": {
        "kind": "fpn",
        "backbone": {"norm": "batch"},
        "fpn": {"norm": "batch", "channels": 24},
        "rpn": {"conv_layers": 2, "rank_by": "sigmoid", "limit_shrinking": True},
        "roi": {"conv_layers": 2, "conv_norm": "batch", "conv_channels": 20, "fc_layers": 1},
        "detection": {"nms_frame": "original"},
    },
    "RoIPool, no fully connected layer": {
        "kind": "fpn",
        "fpn": {"norm": "group"},
        "roi": {"pooling": "pool", "fc_layers": 0},
    },
}
every_kind = pytest.mark.parametrize("kind", KINDS)
IMAGES = random_batch([(160, 192), (100, 130)])


def model_of(kind: str) -> tuple[FasterRCNN, Any]:
    config = tiny_config(**KINDS[kind])
    return tiny_model(config), config.model


def assert_same(found: list[Selection], expected: list[Selection]) -> None:
    assert [len(f) for f in found] == [len(e) for e in expected]
    for f, e in zip(found, expected, strict=True):
        near = (f.boxes[:, None] - e.boxes).abs().amax(dim=2) < 2e-3
        near &= ((f.scores[:, None] - e.scores).abs() < 2e-5) & (f.labels[:, None] == e.labels)
        assert bool((near.sum(dim=0) == 1).all())
        assert bool((near.sum(dim=1) == 1).all())


@every_kind
@torch.inference_mode()
def test_same_detections_in_a_padded_batch(kind: str) -> None:
    model, _ = model_of(kind)
    expected = model(IMAGES)
    assert min(len(e) for e in expected) > 10
    assert_same(fuse(model)(IMAGES), expected)


@every_kind
@torch.inference_mode()
def test_same_detections_in_slots(kind: str) -> None:
    """On a GPU stages pass slots to each other; on a CPU, where nothing must wait, these hold the same."""
    model, _ = model_of(kind)
    parts = (model.normalize, model.backbone, model.anchors, model.rpn, model.roi_head)
    found = SlotFasterRCNN(*parts, model.proposal_settings, model.detection_settings).eval()(IMAGES)
    assert_same(found, model(IMAGES))


@every_kind
def test_same_outputs_in_float64(kind: str) -> None:
    model, _ = model_of(kind)
    fused, model = fuse(model, torch.float64), model.double()
    with torch.inference_mode():
        expected, found = model.features(IMAGES), fused.features(IMAGES)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.stride == theirs.stride
            torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=1e-12)
        # On the last pixel, without area, across the border, outside; and of every level.
        edge = [[191.9, 159.9, 192.0, 160], [50, 50, 50, 50], [-60, -60, 400, 300], [200, 150, 230, 190]]
        sizes = [[10.0, 10.0, 10.0 + s, 10.0 + s] for s in (30, 112, 120, 224, 250, 500)]
        boxes = [torch.tensor(edge + sizes), torch.zeros(0, 4)]
        for ours, theirs in zip(fused.roi_head(found, boxes), model.roi_head(expected, boxes), strict=True):
            torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-5)


@every_kind
def test_same_losses_and_gradients_in_float64(kind: str) -> None:
    model, config = model_of(kind)
    (expected, expected_gradients), (losses, gradients) = (
        step(model.double().train(), config, fast) for fast in (False, True)
    )
    largest = max(float(g.abs().max()) for g in expected_gradients)
    assert largest > 0.01
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * largest)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "convolutions and norms in the heads"])
def test_same_losses_in_slots(kind: str) -> None:
    """But for a batch norm of the head, which would see empty slots; such a network is not trained in them."""
    model, config = model_of(kind)
    (expected, _), (losses, _) = (step(model.train(), config, True, in_slots) for in_slots in (False, True))
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-4, atol=1e-5)


def step(
    model: FasterRCNN, config: Any, fast: bool, in_slots: bool = False
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Losses, and the gradient of every trained parameter."""
    boxes = [[[10.0, 10, 60, 50], [30, 40, 180, 150]], [[20.0, 20, 90, 75]]]
    dtype = model.normalize.mean.dtype
    targets = [Target(torch.tensor(b, dtype=dtype), torch.arange(len(b)) + 1) for b in boxes]
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = build_joint(model, config, fast, in_slots)(IMAGES, targets, seeds=[3, 4])
    return losses, torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters)


@pytest.mark.parametrize("together", [3, 256])
def test_pooling_levels_apart_and_masked_give_what_the_readable_pooling_gives(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is for devices that would have to be waited for."""
    monkeypatch.setattr(roi_levels_module, "TOGETHER", together)
    generator = torch.Generator().manual_seed(0)
    features = tuple(
        FeatureMap(torch.randn(2, 5, 192 // s, 192 // s, generator=generator), s) for s in (4, 8, 16, 32, 64)
    )
    corners = torch.rand(40, 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + torch.rand(40, 2, generator=generator) ** 2 * 900), dim=1)
    pooling = RoIPooling("align", 7, level_rule="detectron2")
    rois = indexed_rois([boxes[:25], boxes[25:]])
    levels = roi_levels(rois, 4, "detectron2")
    assert levels.unique().tolist() == [0, 1, 2, 3]
    expected = pooling(features, [boxes[:25], boxes[25:]])
    torch.testing.assert_close(pool_levels(features, rois, pooling), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(_masked(list(features[:-1]), rois, levels, pooling), expected, rtol=0, atol=1e-5)


def test_columns_follow_the_memory_of_pooled_maps() -> None:
    maps, weight = torch.randn(3, 4, 2, 2), torch.randn(5, 16)
    expected = maps.flatten(1) @ weight.T
    found = maps.permute(0, 2, 3, 1).flatten(1) @ channels_last_columns(weight, 2).T
    torch.testing.assert_close(found, expected)


def test_large_maps_of_a_full_width_pyramid_multiply_less() -> None:
    """Half of such a network's work are the 3×3 convolutions of its levels and of the RPN."""
    model = tiny_model(tiny_config(kind="fpn", fpn={"channels": 128}))
    fused = fuse(model)
    if not any(isinstance(m, WinogradConv) for m in fused.modules()):
        pytest.skip("this processor's kernels do not allow it, which the log says")
    blocks = [m.block for m in fused.modules() if isinstance(m, WinogradConv)]
    assert blocks == 5 * [PYRAMID_TILE_BLOCK]
    assert PYRAMID_TILE_BLOCK > TILE_BLOCK  # other networks keep theirs, and their bits


def test_a_map_is_freed_when_its_level_is_there() -> None:
    """The finest alone takes as much memory as all that comes after it."""
    model, _ = model_of("fpn")
    assert isinstance(model.backbone, FPN)
    channels = [lateral.conv.in_channels for lateral in model.backbone.lateral]
    maps = [torch.randn(1, c, side, side) for c, side in zip(channels, (32, 16, 8, 4), strict=True)]
    held, alive = [weakref.ref(values) for values in maps], []
    pyramid = FusedPyramid(model.backbone, Execution(torch.float32, onednn=False))
    for output in pyramid.output:
        output.register_forward_pre_hook(lambda *_: alive.append(sum(ref() is not None for ref in held)))
    pyramid(maps)
    assert alive == [3, 2, 1, 0]


def test_nothing_is_detected_in_regions_that_there_are_not() -> None:
    model, _ = model_of("fpn")
    assert isinstance(model.roi_head, FullyConnectedHead)
    with torch.inference_mode():
        features = model.features(IMAGES)
        none = [torch.zeros(0, 4), torch.zeros(0, 4)]
        for head in (model.roi_head, fuse(model).roi_head):
            logits, deltas = head(features, none)
            assert (logits.shape, deltas.shape) == ((0, 4), (0, 3, 4))
