"""The form that is exported: it finds what the network finds, in fixed slots."""

import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model

from detector.export import export_network as network_module
from detector.export.export_network import ExportNetwork, in_slots, own_place, survivors
from detector.model.faster_rcnn import FasterRCNN


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model(tiny_config(detection={"min_size": 3.0}))


@pytest.mark.parametrize("size", [(96, 128), (33, 17), (64, 200)])
@pytest.mark.parametrize("multiple", [1, 32])
def test_finds_what_the_network_finds(model: FasterRCNN, size: tuple[int, int], multiple: int) -> None:
    network, batch = ExportNetwork(model, multiple), random_batch([size])
    padded = random_batch([size])
    bottom, right = (-side % multiple for side in size)
    padded.pixels = torch.nn.functional.pad(padded.pixels, (0, right, 0, bottom))

    with torch.no_grad():
        boxes, scores, labels = network(batch.pixels.float(), torch.tensor(0.05))
        (expected,) = model(padded)

    assert len(expected) > 10
    assert torch.allclose(boxes, expected.boxes, atol=1e-3)
    assert torch.allclose(scores, expected.scores, atol=1e-6)
    assert torch.equal(labels, expected.labels)


def test_nothing_is_lost_where_nms_leaves_out_the_lowest_scores(
    model: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenVINO's does."""
    original, left_out = network_module.nms, []

    def without_lowest(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
        kept = original(boxes, scores, threshold)
        left_out.append(int((scores <= torch.finfo(scores.dtype).min).sum()))
        return kept[scores[kept] > torch.finfo(scores.dtype).min]

    network = ExportNetwork(model)
    batch = random_batch([(33, 40)])
    with torch.no_grad():
        expected = network(batch.pixels.float(), torch.tensor(0.05))
        monkeypatch.setattr(network_module, "nms", without_lowest)
        found = network(batch.pixels.float(), torch.tensor(0.05))
    assert left_out == [0, 0]
    assert len(expected[1]) > 10
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_small_picture_has_no_more_slots_than_anchors() -> None:
    model = tiny_model(tiny_config(rpn={"post_nms_top_n_test": 300, "pre_nms_top_n_test": 600}))
    network = ExportNetwork(model)
    slots: list[int] = []
    network.model.roi_head.register_forward_pre_hook(lambda _, given: slots.append(len(given[1][0])))
    with torch.no_grad():
        for size in ((33, 40), (96, 128)):
            batch = random_batch([size])
            boxes, scores, _ = network(batch.pixels.float(), torch.tensor(0.05))
            (expected,) = model(batch)
            assert torch.allclose(boxes, expected.boxes, atol=1e-3)
            assert torch.allclose(scores, expected.scores, atol=1e-6)
    assert slots == [3 * 3 * 9, 300]


def test_a_network_that_sees_nothing_but_nan_finds_nothing(model: FasterRCNN) -> None:
    image = torch.full((1, 3, 64, 64), torch.nan)
    boxes, scores, labels = ExportNetwork(model)(image, torch.tensor(0.0))
    assert boxes.shape == (0, 4)
    assert len(scores) == len(labels) == 0


def test_slots_hold_the_first_and_say_which_are_filled() -> None:
    index, filled = in_slots(torch.tensor([7, 3, 9]), 2)
    assert (index.tolist(), filled.tolist()) == ([7, 3], [True, True])
    index, filled = in_slots(torch.tensor([7]), 3)
    assert (index.tolist(), filled.tolist()) == ([7, 0, 0], [True, False, False])


def test_survivors_of_none_one_and_two_that_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    assert survivors(boxes[:0], boxes[:0, 0], 0.5).tolist() == []
    assert survivors(boxes[:1], torch.tensor([0.3]), 0.5).tolist() == [0]
    assert survivors(boxes, torch.tensor([0.3, 0.4]), 0.5).tolist() == [1]
    assert survivors(boxes, torch.tensor([0.3, 0.4]), 0.95).tolist() == [1, 0]


def test_classes_do_not_meet_and_stay_near_the_origin() -> None:
    height, width = 90, 120
    places = own_place(torch.arange(80), 80, (height, width))
    apart = (places[:, None] - places[None]).abs()
    meets = (apart[..., 0] <= width) & (apart[..., 1] <= height)
    assert torch.equal(meets, torch.eye(80, dtype=torch.bool))
    assert places.abs().max() <= 5 * (width + 1)
