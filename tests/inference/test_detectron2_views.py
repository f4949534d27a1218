"""detectron2's habits: three views at a time, padded to the largest, of a picture that was resized before."""

import numpy as np
import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model

from detector.config import ViewsConfig
from detector.inference.detectron2_views import detect_as_detectron2
from detector.inference.ensemble import Member
from detector.structures import ImageBatch, Selection

CONFIG = tiny_config(inputs={"min_size_test": 40, "max_size_test": 100})


class FakeNetwork(torch.nn.Module):
    """Detects in each picture the box (0, 0, 10, 10), with the score 0.9, 0.8, 0.7, … of a new class each time."""

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.batches: list[ImageBatch] = []
        self.detection_settings = tiny_model(CONFIG).detection_settings

    def forward(self, images: ImageBatch) -> list[Selection]:
        first = sum(len(batch) for batch in self.batches)
        self.batches.append(images)
        numbers = [torch.tensor([first + i]) for i in range(len(images))]
        box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        return [Selection(box, 0.9 - 0.1 * number, number + 1) for number in numbers]


def detect(**settings: object) -> tuple[FakeNetwork, Selection]:
    network = FakeNetwork()
    image: np.ndarray = random_batch([(80, 160)], 1).pixels[0].permute(1, 2, 0).numpy().copy()
    member = Member(network, CONFIG.input)  # type: ignore[arg-type]
    return network, detect_as_detectron2(member, image, ViewsConfig(form="detectron2", **settings))  # type: ignore[arg-type]


def test_views_go_three_at_a_time_padded_to_the_largest() -> None:
    network, _ = detect(sizes=(20, 30), resize_first=False)
    assert [batch.sizes for batch in network.batches] == [[(20, 40), (20, 40), (30, 60)], [(30, 60)]]
    assert [tuple(batch.pixels.shape) for batch in network.batches] == [(3, 3, 30, 60), (1, 3, 30, 60)]
    first, mirrored, _ = network.batches[0].pixels[:, :, :20, :40]
    assert torch.equal(first.flip(2), mirrored)


def test_boxes_come_back_to_the_original() -> None:
    _, selection = detect(sizes=(20, 40))
    expected = [[0, 0, 40, 40], [120, 0, 160, 40], [0, 0, 20, 20], [140, 0, 160, 20]]
    assert selection.boxes.tolist() == [pytest.approx(box) for box in expected]
    assert selection.labels.tolist() == [1, 2, 3, 4]


def test_the_picture_is_resampled_twice_as_there_unless_told_otherwise() -> None:
    once, _ = detect(sizes=(80,), resize_first=False)
    twice, _ = detect(sizes=(80,))
    assert once.batches[0].sizes == [(80, 160)] * 2
    assert twice.batches[0].sizes == [(80, 160)] * 2  # from 50 × 100
    assert not torch.equal(once.batches[0].pixels, twice.batches[0].pixels)
