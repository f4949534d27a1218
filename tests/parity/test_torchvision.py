"""torchvision's FasterRCNN assembled as C4 gives the same detections here: computed live, for all five backbones."""

from dataclasses import replace

import pytest
import torch
import torchvision_c4
from comparison import Comparison, ExpectEqual, Rows
from tiny_models import random_batch, with_model
from torchvision.models.detection import FasterRCNN

from detector.config import Config
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.transforms import prepare_for_test
from detector.model import faster_rcnn
from detector.model.build import build_model
from detector.model.postprocess import to_original_frame
from detector.weights.lineages.torchvision_detector import from_torchvision_detector, torchvision_detector_config

NUM_CLASSES = 5
MIN_SIZE, MAX_SIZE, PROPOSALS = 112, 160, 20
ALONE_TOO = (18, 50)  # each kind of block; a picture alone is padded less than in a batch
BOX, SCORE = 0.02, 1e-4


def convert(theirs: FasterRCNN, depth: int) -> tuple[faster_rcnn.FasterRCNN, Config]:
    config = torchvision_detector_config(
        depth, NUM_CLASSES, anchor_sizes=torchvision_c4.SIZES, anchor_ratios=torchvision_c4.RATIOS
    )
    config = with_model(config, rpn=replace(config.model.rpn, post_nms_top_n_test=PROPOSALS))
    config = replace(config, input=replace(config.input, min_size_test=MIN_SIZE, max_size_test=MAX_SIZE))
    ours = build_model(config)
    ours.load_state_dict(from_torchvision_detector(theirs.state_dict(), config, "live"))
    return ours.eval(), config


@torch.inference_mode()
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_the_same_detections_alone_and_in_a_batch_of_different_sizes(
    depth: int, device: torch.device, expect_equal: ExpectEqual
) -> None:
    theirs = torchvision_c4.build(
        depth, NUM_CLASSES, seed=depth, min_size=MIN_SIZE, max_size=MAX_SIZE, rpn_post_nms_top_n_test=PROPOSALS
    )
    ours, config = convert(theirs, depth)
    ours, theirs = ours.to(device), theirs.to(device)
    # One is enlarged and one is so long that its longest edge decides; neither fits the padding.
    sizes = [(97, 131), (301, 123)]
    batch = random_batch(sizes, seed=depth)
    pictures = [batch.pixels[i, :, :h, :w].permute(1, 2, 0).numpy() for i, (h, w) in enumerate(sizes)]

    found = Comparison()
    for chosen in ([0], [0, 1]) if depth in ALONE_TOO else ([0, 1],):
        images = make_batch(
            [prepare_for_test(pictures[i], config.input) for i in chosen],
            [sizes[i] for i in chosen],
            chosen,
            config.input.pad_to_multiple,
        )
        expected = theirs([torch.from_numpy(pictures[i]).permute(2, 0, 1).to(device) / 255 for i in chosen])
        for i, detections in enumerate(ours(images.to(device))):
            moved = to_original_frame(detections, images.sizes[i], images.original_sizes[i])
            assert len(expected[i]["scores"]) >= 20
            assert len(expected[i]["labels"].unique()) >= 3
            found.same_rows(
                "detections",
                Rows(moved.boxes, moved.scores, moved.labels),
                Rows(expected[i]["boxes"], expected[i]["scores"], expected[i]["labels"]),
                BOX,
                SCORE,
            )
    expect_equal(found, f"{device}, torchvision, ResNet-{depth}")
