from pathlib import Path

import numpy as np
from annotated_sets import write_json

from detector.config import DataConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.order import GlobalBatches
from detector.datasets.loading.repeats import describe_repeats, repeat_factors
from detector.training.run.start import pictures_of_epoch


def one_in_a_hundred(folder: Path, pictures: int = 200, rare: int = 2) -> DetectionDataset:
    """Every picture shows class 1, and the first of them class 2 too."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 64} for n in range(pictures)]
    owners = [(n, 1) for n in range(pictures)] + [(n, 2) for n in range(rare)]
    annotations = [
        {"id": number, "image_id": n, "category_id": label, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for number, (n, label) in enumerate(owners)
    ]
    categories = [{"id": 1, "name": "common"}, {"id": 2, "name": "rare"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return open_dataset("coco", write_json(folder / "a.json", content), folder)


def seen(dataset: DetectionDataset, repeats: np.ndarray | None, epochs: int) -> np.ndarray:
    """[N], how often each picture is in the batches of some epochs."""
    groups = np.zeros(len(dataset), bool)
    length = len(dataset) if repeats is None else round(float(repeats.sum()))
    batches = GlobalBatches(np.arange(len(dataset)), groups, 4, 0, repeats).starting_at(0)
    return np.bincount(np.concatenate([next(batches) for _ in range(length * epochs // 4)]), minlength=len(dataset))


def test_a_class_of_one_in_a_hundred_is_seen_more_than_three_times_as_often(tmp_path: Path) -> None:
    dataset = one_in_a_hundred(tmp_path)
    factors = repeat_factors(dataset, 0.15)
    np.testing.assert_allclose(factors[:2], np.sqrt(0.15 / 0.01))
    assert (factors[2:] == 1).all()
    with_repeats, without = seen(dataset, factors, 40), seen(dataset, None, 40)
    share = with_repeats[:2].sum() / with_repeats.sum()
    assert share >= 3 * without[:2].sum() / without.sum()
    assert with_repeats[2:].min() >= 38  # the others are not forgotten
    assert "rare 2 → 8" in describe_repeats(dataset, factors)
    assert pictures_of_epoch(dataset, DataConfig(repeat_threshold=0.15)) == 206
    assert pictures_of_epoch(dataset, DataConfig()) == 200


def test_batches_are_a_function_of_the_seed_however_reached(tmp_path: Path) -> None:
    dataset = one_in_a_hundred(tmp_path, pictures=20, rare=1)
    batches = GlobalBatches(np.arange(20), np.zeros(20, bool), 4, 7, repeat_factors(dataset, 0.5))
    whole = batches.starting_at(0)
    first = [next(whole).tolist() for _ in range(30)]
    later = batches.starting_at(13)
    assert [next(later).tolist() for _ in range(17)] == first[13:]


def test_a_set_without_boxes_has_no_rare_class(tmp_path: Path) -> None:
    assert repeat_factors(one_in_a_hundred(tmp_path, rare=0), 0.5).tolist() == [1.0] * 200
