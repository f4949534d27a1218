"""From settings to a network: the flagship in full, and every setting at its place."""

import resource
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config, with_model
from torch import nn

from detector.config import BackboneConfig, Config, ModelConfig, load_config
from detector.errors import UserError
from detector.model.blocks import FrozenBatchNorm2d
from detector.model.build import build_model, proposal_settings
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import ImageBatch, Target
from detector.training.joint import build_joint

FLAGSHIP = "configs/r101c4_coco_3x.yaml"


def flagship(project_root: Path) -> Config:
    config = load_config(project_root / FLAGSHIP)
    return with_model(config, num_classes=80)


@pytest.fixture
def meta_flagship(project_root: Path) -> FasterRCNN:
    """ResNet-101-C4 without memory for its weights."""
    with torch.device("meta"):
        return build_model(flagship(project_root)).eval()


def test_the_flagship_has_the_published_number_of_parameters(meta_flagship: FasterRCNN) -> None:
    assert sum(p.numel() for p in meta_flagship.parameters()) == 52_731_548
    assert sum(p.numel() for p in meta_flagship.backbone.parameters() if not p.requires_grad) == 222_400
    assert len(meta_flagship.state_dict()) == 530


def test_the_flagships_shapes_at_every_hop(meta_flagship: FasterRCNN) -> None:
    """800 × 1216 pixels and 1000 proposals, computed with shapes alone."""
    model = meta_flagship
    with torch.device("meta"):
        size = (800, 1216)
        images = ImageBatch(torch.zeros(1, 3, *size, dtype=torch.uint8), [size], [size], [0])
        pixels = model.normalize(images)
        assert pixels.shape == (1, 3, 800, 1216)

        backbone = model.backbone
        conv1 = backbone.conv1(pixels)
        assert conv1.shape == (1, 64, 400, 608)
        x = backbone.max_pool(conv1)
        for stage, shape in (("conv2_x", (256, 200, 304)), ("conv3_x", (512, 100, 152)), ("conv4_x", (1024, 50, 76))):
            x = getattr(backbone, stage)(x)
            assert x.shape == (1, *shape)
        features = model.features(images)
        assert [(f.values.shape, f.stride) for f in features] == [((1, 1024, 50, 76), 16)]

        ((logits, deltas),) = model.rpn(features)
        (anchors,) = model.anchors(features)
        assert anchors.all().shape == (50 * 76 * 15, 4)
        assert (logits.shape, deltas.shape) == ((1, 57_000), (1, 57_000, 4))

        pooled = model.roi_head.pooling(features, [torch.zeros(1000, 4)])
        assert pooled.shape == (1000, 1024, 14, 14)
        assert model.roi_head.conv5_x[:-1](pooled).shape == (1000, 2048, 7, 7)
        vectors = model.roi_head.conv5_x(pooled)
        assert vectors.shape == (1000, 2048)
        assert model.roi_head.cls_score(vectors).shape == (1000, 81)
        assert model.roi_head.bbox_pred(vectors).shape == (1000, 320)
        class_logits, class_deltas = model.roi_head(features, [torch.zeros(1000, 4)])
        assert (class_logits.shape, class_deltas.shape) == ((1000, 81), (1000, 80, 4))


@pytest.mark.slow
def test_the_flagship_detects_and_trains_on_a_photograph_within_24_gib(project_root: Path, references: Path) -> None:
    """On the CPU, in full: 800 × 1216 pixels, every number of the recipe."""
    from PIL import Image

    config = flagship(project_root)
    torch.manual_seed(0)
    model = build_model(config)
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d) and name.endswith("norm3"):
            module.weight.fill_(0.2)  # else 33 blocks without trained norms add up to infinity
    with Image.open(references / "images/coffee_600x400.png") as picture:
        photograph = picture.convert("RGB").resize((1216, 800))
    pixels = torch.frombuffer(bytearray(photograph.tobytes()), dtype=torch.uint8).view(800, 1216, 3).permute(2, 0, 1)
    images = ImageBatch(pixels[None], [(800, 1216)], [(400, 600)], [0])

    with torch.inference_mode():
        found = model.eval()(images)
    assert len(found) == 1

    joint = build_joint(model.train(), config.model)
    target = Target(torch.tensor([[300.0, 120.0, 960.0, 680.0]]), torch.tensor([47]))
    losses = joint(images, [target], [0])
    sum(losses.values(), torch.zeros(())).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < 24 * 2**30


def test_names_in_the_state_dict() -> None:
    names = set(build_model(tiny_config(backbone={"depth": 50})).state_dict())
    rpn = {f"rpn.{layer}.{kind}" for layer in ("conv", "objectness", "anchor_deltas") for kind in ("weight", "bias")}
    head = {f"roi_head.{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in ("weight", "bias")}
    assert {n for n in names if n.startswith("rpn.")} == rpn
    assert {n for n in names if n.startswith("roi_head.") and ".conv5_x." not in n} == head
    assert {n.split(".")[1] for n in names if n.startswith("backbone.")} == {
        "conv1",
        "norm1",
        "conv2_x",
        "conv3_x",
        "conv4_x",
    }
    assert {"backbone.conv1.weight", "backbone.norm1.running_var", "roi_head.conv5_x.2.norm3.bias"} <= names


def test_rows_of_the_output_layers() -> None:
    model = build_model(tiny_config(num_classes=7, rpn={"anchor_sizes": (8.0, 16.0), "anchor_ratios": (1.0, 2.0)}))
    assert model.roi_head.cls_score.out_features == 8
    assert model.roi_head.bbox_pred.out_features == 28
    assert model.rpn.objectness.out_channels == 4
    assert model.rpn.anchor_deltas.out_channels == 16


def test_the_number_of_classes_must_be_known() -> None:
    with pytest.raises(UserError, match=r"model\.num_classes is not set; set it, or take it from the dataset"):
        build_model(Config())


def test_settings_arrive_where_they_belong() -> None:
    config = tiny_config(
        rpn={
            "anchor_offset": 0.5,
            "anchor_rounding": True,
            "channels": 5,
            "nms_threshold": 0.6,
            "min_size": 1.5,
            "delta_weights": (1.0, 2.0, 3.0, 4.0),
            "pre_nms_top_n_train": 11,
            "post_nms_top_n_train": 12,
            "pre_nms_top_n_test": 13,
            "post_nms_top_n_test": 14,
        },
        roi={
            "pooled_size": 6,
            "sampling_ratio": 2,
            "aligned": False,
            "pooling": "pool",
            "delta_weights": (4.0, 3.0, 2.0, 1.0),
        },
        detection={"score_threshold": 0.2, "nms_threshold": 0.3, "max_per_image": 9, "min_size": 0.25},
        inputs={"pixel_mean": (1.0, 2.0, 3.0), "pixel_std": (4.0, 5.0, 6.0)},
    )
    model = build_model(config)
    assert model.anchors.offset == 0.5
    assert torch.equal(model.anchors.base, model.anchors.base.round())
    assert model.rpn.conv.out_channels == 5
    pooling = model.roi_head.pooling
    assert (pooling.kind, pooling.size) == ("pool", 6)
    assert (pooling.sampling_ratio, pooling.aligned) == (2, False)
    proposals = model.proposal_settings
    assert (proposals.pre_nms_top_n, proposals.post_nms_top_n) == (13, 14)
    assert (proposals.nms_threshold, proposals.min_size) == (0.6, 1.5)
    assert proposals.delta_weights == (1, 2, 3, 4)
    training = proposal_settings(config.model.rpn, training=True)
    assert (training.pre_nms_top_n, training.post_nms_top_n) == (11, 12)
    detections = model.detection_settings
    assert (detections.score_threshold, detections.nms_threshold) == (0.2, 0.3)
    assert (detections.max_per_image, detections.min_size) == (9, 0.25)
    assert detections.delta_weights == (4, 3, 2, 1)
    assert model.normalize.mean.flatten().tolist() == [1, 2, 3]
    assert model.normalize.std.flatten().tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("norm", "conv5_norm", "expected"),
    [
        ("frozen_batch", None, FrozenBatchNorm2d),
        ("frozen_batch", "batch", nn.BatchNorm2d),
        ("batch", "group", nn.GroupNorm),
        ("group", None, nn.GroupNorm),
    ],
)
def test_conv5_x_may_be_normalised_in_its_own_way(norm: str, conv5_norm: str | None, expected: type[nn.Module]) -> None:
    model = build_model(tiny_config(backbone={"norm": norm, "conv5_norm": conv5_norm}))
    kinds = {type(m) for n, m in model.roi_head.conv5_x.named_modules() if n.rsplit(".")[-1].startswith("norm")}
    assert kinds == {expected}


def test_frozen_stages() -> None:
    config = Config(model=ModelConfig(num_classes=2, backbone=BackboneConfig(depth=18, width=4, freeze_stages=3)))
    frozen = {n.split(".")[1] for n, p in build_model(config).named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "conv2_x", "conv3_x"}
