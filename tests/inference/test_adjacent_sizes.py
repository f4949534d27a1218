"""Maxout of adjacent sizes: which two, and that the larger activation counts."""

from dataclasses import replace

import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model

from detector.inference.adjacent_sizes import lower_size, score_by_maxout
from detector.inference.ensemble import Member
from detector.inference.look import Look, look
from detector.inference.views import View

CONFIG = tiny_config(inputs={"min_size_test": 64, "max_size_test": 200})


def looks(*scales: float) -> list[Look]:
    """Of one network at one picture."""
    member = Member(tiny_model(CONFIG), CONFIG.input)
    image = random_batch([(64, 80)], 1).pixels[0].permute(1, 2, 0).numpy().copy()
    with torch.inference_mode():
        return [look(member, View(scale=scale), [image]) for scale in scales]


@pytest.mark.parametrize(
    ("side", "lower"),
    [(10, 1), (31, 1), (45, 0), (1, 1), (64, 0)],  # 64 is nearest to 32 at 0.5, then at 1
)
def test_each_region_is_seen_at_the_two_sizes_nearest_to_the_canonical_one(side: int, lower: int) -> None:
    box = torch.tensor([[0.0, 0.0, side, side]])
    assert lower_size(box, looks(0.5, 1.0, 2.0), 32.0).tolist() == [lower]


def test_the_maximum_of_two_like_views_is_either() -> None:
    one = looks(1.0)[0]
    boxes = [torch.tensor([[5.0, 5, 40, 40], [10, 20, 70, 60]])]
    with torch.inference_mode():
        scores, refined = score_by_maxout([one, one], boxes, 32.0)
        expected_scores, expected = one.score(boxes)
    torch.testing.assert_close(scores, expected_scores)
    torch.testing.assert_close(refined, expected)


def test_the_larger_activation_counts() -> None:
    """By hand, over the vectors that the sibling layers see."""
    small, large = looks(0.5, 1.0)
    boxes = [torch.tensor([[5.0, 5, 40, 40], [10, 20, 70, 60]])]
    head = small.member.network.roi_head
    with torch.inference_mode():
        vectors = torch.maximum(*(head.vectors(one.features, one.seen(boxes)) for one in (small, large)))
        scores, _ = score_by_maxout([large, small], boxes, 32.0)
        torch.testing.assert_close(scores[0], head.predict(vectors)[0].softmax(dim=1))


def test_mirrored_views_give_boxes_of_the_original() -> None:
    """Shown by a network whose deltas move every box half its width to the right, as a mirrored view has it."""
    plain = looks(0.5, 1.0)
    mirrored = [replace(one, view=replace(one.view, horizontal=True)) for one in plain]
    network = plain[0].member.network
    for one in mirrored:
        layer = one.member.network.roi_head.bbox_pred
        layer.weight.data.zero_()
        layer.bias.data.copy_(torch.tensor([0.5, 0, 0, 0]).repeat(3) * network.detection_settings.delta_weights[0])
    boxes = [torch.tensor([[25.0, 5, 45, 40]])]
    with torch.inference_mode():
        _, refined = score_by_maxout(mirrored, boxes, 32.0)
    expected = torch.tensor([15.0, 5, 35, 40]).expand(1, 3, 4)
    torch.testing.assert_close(refined[0], expected, atol=1e-4, rtol=0)


def test_no_regions() -> None:
    with torch.inference_mode():
        scores, boxes = score_by_maxout(looks(0.5, 1.0), [torch.zeros(0, 4)], 224.0)
    assert (scores[0].shape, boxes[0].shape) == ((0, 4), (0, 3, 4))
