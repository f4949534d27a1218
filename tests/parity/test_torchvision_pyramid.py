"""torchvision's own `fasterrcnn_resnet50_fpn` and `_v2` give the same here, computed live with random weights."""

from dataclasses import replace

import pytest
import torch
import torchvision_fpn
from comparison import Comparison, ExpectEqual, Rows
from tiny_models import random_batch, with_model
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from detector.config import Config
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.transforms import prepare_for_test
from detector.fast.fuse import fuse
from detector.model import faster_rcnn
from detector.model.build import build_model
from detector.model.postprocess import to_original_frame
from detector.structures import Target
from detector.training.joint import build_joint
from detector.weights.lineages.torchvision_export import to_torchvision_pyramid
from detector.weights.lineages.torchvision_pyramid import from_torchvision_pyramid, torchvision_pyramid_config

NUM_CLASSES = 5
MIN_SIZE, MAX_SIZE, PROPOSALS = 112, 160, 20
BOX, SCORE = 0.02, 1e-4
GRADIENT = 1e-2  # of its norm: through fifty layers, other kernels' rounding comes to a third of this
EVERY = 100_000  # more than there are: all are sampled, so that nothing is left to chance
LOSSES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "roi_class": "loss_classifier",
    "roi_box": "loss_box_reg",
}


def convert(theirs: FasterRCNN, norm_eps: float | None = None) -> tuple[faster_rcnn.FasterRCNN, Config]:
    """As ours, in evaluation mode, with the arguments that the tests give theirs."""
    tensors = theirs.state_dict()
    config = torchvision_pyramid_config(tensors, "live")
    config = with_model(
        config,
        rpn=replace(
            config.model.rpn,
            post_nms_top_n_test=PROPOSALS,
            post_nms_top_n_train=PROPOSALS,
            batch_size_per_image=EVERY,
        ),
        roi=replace(config.model.roi, batch_size_per_image=EVERY),
    )
    if norm_eps is not None:
        config = with_model(config, backbone=replace(config.model.backbone, norm_eps=norm_eps))
    config = replace(config, input=replace(config.input, min_size_test=MIN_SIZE, max_size_test=MAX_SIZE))
    ours = build_model(config)
    ours.load_state_dict(from_torchvision_pyramid(tensors, config, "live"))
    return ours.eval(), config


def build(make: torchvision_fpn.Make) -> FasterRCNN:
    return torchvision_fpn.build(
        make,
        NUM_CLASSES,
        min_size=MIN_SIZE,
        max_size=MAX_SIZE,
        rpn_post_nms_top_n_test=PROPOSALS,
        rpn_post_nms_top_n_train=PROPOSALS,
        rpn_batch_size_per_image=EVERY,
        box_batch_size_per_image=EVERY,
    )


MODELS = [
    pytest.param(torchvision_fpn.v1, None, id="v1"),
    pytest.param(torchvision_fpn.v1_frozen, None, id="v1 frozen", marks=pytest.mark.slow),
    pytest.param(torchvision_fpn.v1_published, 0.0, id="v1 published", marks=pytest.mark.slow),
    pytest.param(torchvision_fpn.v2, None, id="v2"),
]


@pytest.mark.parametrize(("make", "norm_eps"), MODELS)
def test_the_same_detections_losses_gradients_and_tensors_back(
    make: torchvision_fpn.Make, norm_eps: float | None, expect_equal: ExpectEqual
) -> None:
    """One model each for all four, since building one takes longest."""
    theirs = build(make)
    ours, config = convert(theirs, norm_eps)
    found = Comparison()
    compare_detections(found, theirs, ours, config)
    back = to_torchvision_pyramid(ours.state_dict(), config)
    compare_tensors(found, theirs.state_dict(), back)
    if make is not torchvision_fpn.v1_published:
        compare_training(found, theirs, ours, config)
    expect_equal(found, "torchvision, fasterrcnn_resnet50_fpn and _v2")


@torch.inference_mode()
def compare_detections(found: Comparison, theirs: FasterRCNN, ours: faster_rcnn.FasterRCNN, config: Config) -> None:
    """In a batch of two pictures, one enlarged and one so long that its longest edge decides; neither fits the padding.

    By the readable execution and by the fast one.
    """
    sizes = [(97, 131), (301, 123)]
    batch = random_batch(sizes, seed=1)
    pictures = [batch.pixels[i, :, :h, :w].permute(1, 2, 0).numpy() for i, (h, w) in enumerate(sizes)]
    prepared = [prepare_for_test(picture, config.input) for picture in pictures]
    images = make_batch(prepared, sizes, [0, 1], config.input.pad_to_multiple)
    expected = theirs([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    for name, network in (("readable", ours), ("fast", fuse(ours))):
        for selection, size, original, wanted in zip(
            network(images), images.sizes, images.original_sizes, expected, strict=True
        ):
            moved = to_original_frame(selection, size, original)
            assert len(wanted["scores"]) >= 20
            assert len(wanted["labels"].unique()) >= 3
            found.same_rows(
                f"detections, {name}",
                Rows(moved.boxes, moved.scores, moved.labels),
                Rows(wanted["boxes"], wanted["scores"], wanted["labels"]),
                BOX,
                SCORE,
            )


def compare_tensors(found: Comparison, theirs: dict[str, Tensor], back: dict[str, Tensor]) -> None:
    """All but the four rows of the background's box, which nothing reads, and counters of batches."""
    found.equal("names", sorted(back), sorted(theirs))
    for name, tensor in theirs.items():
        first = 4 if name.startswith("roi_heads.box_predictor.bbox_pred.") else 0
        found.equal(
            name, torch.equal(back[name][first:] if first else back[name], tensor[first:] if first else tensor), True
        )


def compare_training(found: Comparison, theirs: FasterRCNN, ours: faster_rcnn.FasterRCNN, config: Config) -> None:
    """Losses of two pictures and the gradients of every parameter, with all anchors and RoIs sampled."""
    sizes = [(96, 96), (96, 96)]
    images = random_batch(sizes, seed=2)
    targets = [
        Target(torch.tensor([[10.0, 12, 70, 90], [50, 40, 90, 80]]), torch.tensor([1, 3])),
        Target(torch.tensor([[20.0, 20, 60, 61]]), torch.tensor([5])),
    ]
    theirs.transform.min_size, theirs.transform.max_size = (96,), 96
    for model in (theirs.train(), ours.train()):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # statistics of two small pictures would magnify rounding a hundredfold
    expected = theirs(
        [pixels.float() / 255 for pixels in images.pixels],
        [{"boxes": target.boxes, "labels": target.labels} for target in targets],
    )
    torch.stack(list(expected.values())).sum().backward()
    joint = build_joint(ours, config.model)
    losses = joint(images, targets, [1, 2])
    torch.stack(list(losses.values())).sum().backward()
    for our_name, their_name in LOSSES.items():
        assert expected[their_name] > 0
        found.relative(our_name, losses[our_name].item(), expected[their_name].item(), 1e-4)
    gradients = {n: p.grad for n, p in ours.named_parameters() if p.grad is not None}
    renamed = to_torchvision_pyramid(gradients, config)
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None and parameter.requires_grad and name in renamed:
            first = 4 if name.startswith("roi_heads.box_predictor.bbox_pred.") else 0
            found.near(f"gradient of {name.split('.')[0]}", renamed[name][first:], parameter.grad[first:], GRADIENT)
