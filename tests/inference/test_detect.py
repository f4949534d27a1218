"""Running a model over a loader, and gathering from several processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from detector.categories import CategoryMap
from detector.inference import detect
from detector.inference.detect import detect_dataset, gather_results
from detector.structures import ImageBatch, Selection

CATEGORIES = CategoryMap.from_coco([{"id": 90, "name": "b"}, {"id": 3, "name": "a"}])
CPU = torch.device("cpu")


class Fixed(nn.Module):
    """Finds one object of label 2 a quarter into every image, and one of label 1 outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Dropout().eval()
        self.was_training = True

    def forward(self, images: ImageBatch) -> list[Selection]:
        self.was_training = self.training or torch.is_grad_enabled()
        return [
            Selection(
                torch.tensor([[w / 4, h / 4, w / 2, h / 2], [w, 0.0, w + 9.0, 9.0]]),
                torch.tensor([0.75, 0.5]),
                torch.tensor([2, 1]),
            )
            for h, w in images.sizes
        ]


def batches() -> Iterator[ImageBatch]:
    yield ImageBatch(
        torch.zeros(2, 3, 80, 120, dtype=torch.uint8), [(80, 100), (40, 120)], [(160, 300), (40, 120)], [7, 4]
    )
    yield ImageBatch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [(8, 8)], [(8, 8)], [7])  # a repeated image


def test_boxes_are_in_original_pixels_and_every_image_counts_once() -> None:
    found = detect_dataset(Fixed(), batches(), CPU, CATEGORIES, progress=False)
    assert found == [
        {"image_id": 7, "category_id": 90, "bbox": [75.0, 40.0, 75.0, 40.0], "score": 0.75},
        {"image_id": 4, "category_id": 90, "bbox": [30.0, 10.0, 30.0, 10.0], "score": 0.75},
    ]
    assert all(type(value) is float for value in found[0]["bbox"])


def test_detections_of_a_label_that_stands_for_nothing_are_left_out() -> None:
    """No data know its category, and scoring would refuse them."""
    categories = CategoryMap.from_names(["a", "N/A 2"])
    assert detect_dataset(Fixed(), batches(), CPU, categories, progress=False) == []


def test_model_is_evaluated_and_left_as_it_was() -> None:
    model = Fixed()
    model.train()
    model.frozen.eval()
    detect_dataset(model, batches(), CPU, CATEGORIES, progress=False)
    assert not model.was_training
    assert model.training
    assert not model.frozen.training


def test_modes_are_restored_after_a_failure() -> None:
    class Broken(Fixed):
        def forward(self, images: ImageBatch) -> list[Selection]:
            raise RuntimeError(str(len(images)))

    model = Broken()
    with pytest.raises(RuntimeError, match="2"):
        detect_dataset(model, batches(), CPU, CATEGORIES, progress=False)
    assert model.training


def test_the_next_batch_is_given_before_anyone_looks_at_the_one_before() -> None:
    """On a GPU, looking is a wait."""
    happened: list[str] = []

    class Seen(list[Selection]):
        def __iter__(self) -> Iterator[Selection]:
            happened.append("looked")
            return super().__iter__()

    class Slow(Fixed):
        def forward(self, images: ImageBatch) -> list[Selection]:
            happened.append("given")
            return Seen(super().forward(images))

    detect_dataset(Slow(), [*batches(), *batches()], CPU, CATEGORIES, progress=False)
    assert happened == ["given", "given", "looked", "given", "looked", "given", "looked", "looked"]


def test_no_images() -> None:
    assert detect_dataset(Fixed(), [], CPU, CATEGORIES, progress=False) == []


def test_results_come_in_the_order_of_the_dataset() -> None:
    local = [{"image_id": 1, "n": 0}, {"image_id": 3, "n": 1}, {"image_id": 3, "n": 2}, {"image_id": 2, "n": 3}]
    assert [result["n"] for result in gather_results(local, [3, 2, 1, 4])] == [1, 2, 3, 0]


def results_of(rank: int) -> list[dict[str, Any]]:
    """Image 1 was given to every process, the other one to this one only."""
    shared_image = [{"image_id": 1, "score": 0.5 + rank}, {"image_id": 1, "score": 0.2}]
    return [*shared_image, {"image_id": 10 + rank, "score": 0.1}]


GATHERED = [
    {"image_id": 1, "score": 0.5},
    {"image_id": 1, "score": 0.2},
    {"image_id": 10, "score": 0.1},
    {"image_id": 11, "score": 0.1},
]


def test_every_image_once() -> None:
    assert detect._each_image_once([results_of(0), results_of(1)]) == GATHERED


def test_a_group_of_one() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert gather_results(results_of(0), [1, 10]) == results_of(0)
    finally:
        dist.destroy_process_group()


def _gather(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(gather_results(results_of(rank), [1, 10, 11]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_gather, (str(tmp_path),), nprocs=2)
    assert torch.load(tmp_path / "0.pt") == GATHERED
    assert torch.load(tmp_path / "1.pt") == []
