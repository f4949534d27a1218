import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.config import Config, load_config
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.batch import TrainingBatch
from detector.datasets.loading.loader import EvaluationLoader, evaluation_loader, training_loader, validation_loader
from detector.datasets.pictures.read import ImageError
from detector.errors import UserError

# Machines that run these tests may have fewer cores than the tests use workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

SETTINGS = [
    "train.batch_size=4",
    "train.seed=3",
    "input.min_size_train=[24, 32]",
    "input.min_size_test=30",
    "data.augment.vertical_flip=0.5",
    "data.augment.crop=0.5",
]
SIZES = [(20, 30), (30, 20), (24, 24), (20, 40)]


def config(*words: str, workers: int = 0) -> Config:
    return load_config(None, [*SETTINGS, f"data.num_workers={workers}", *words])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """12 small pictures in four sizes; number 5 has no objects, number 6 only a crowd."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(12):
        height, width = SIZES[number % 4]
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        images.append({"id": 50 + number, "file_name": f"{number}.png", "height": height, "width": width})
        if number != 5:
            box = {"image_id": 50 + number, "category_id": 7, "bbox": [2, 3, 9, 8 + number / 4], "iscrowd": number == 6}
            annotations.append(box | {"id": number})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "thing"}]}
    (folder / "set.json").write_text(json.dumps(content))
    return open_dataset("coco", folder / "set.json", folder)


def take(count: int, batches: Iterator[TrainingBatch]) -> list[TrainingBatch]:
    taken = list(islice(batches, count))
    getattr(batches, "close", lambda: None)()
    return taken


def rows(batches: list[TrainingBatch]) -> list[tuple[object, ...]]:
    """One tuple of plain values for every picture, without its padding, in order."""
    found: list[tuple[object, ...]] = []
    for batch in batches:
        for place, (height, width) in enumerate(batch.images.sizes):
            pixels = batch.images.pixels[place, :, :height, :width].contiguous().numpy().tobytes()
            target = batch.targets[place]
            boxes = (target.boxes.tolist(), target.labels.tolist())
            found.append((batch.iteration, batch.images.image_ids[place], batch.seeds[place], boxes, pixels))
    return found


def test_batches_hold_what_they_say(dataset: DetectionDataset) -> None:
    for number, batch in enumerate(take(6, training_loader(dataset, config()))):
        assert batch.iteration == number
        assert len(batch.images) == len(batch.targets) == len(batch.seeds) == 4
        assert batch.images.pixels.dtype == torch.uint8
        originals = [SIZES[(image_id - 50) % 4] for image_id in batch.images.image_ids]
        assert batch.images.original_sizes == originals
        assert len({width > height for height, width in originals}) == 1
        for (height, width), target in zip(batch.images.sizes, batch.targets, strict=True):
            assert target.boxes.dtype == torch.float32
            assert (target.boxes[:, 2:] <= torch.tensor([width, height])).all()
            assert (target.boxes[:, :2] >= 0).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(dataset: DetectionDataset, workers: int) -> None:
    alone = take(5, training_loader(dataset, config()))
    assert rows(take(5, training_loader(dataset, config(workers=workers)))) == rows(alone)


def test_a_resumed_run_goes_on_where_it_was(dataset: DetectionDataset) -> None:
    whole = rows(take(8, training_loader(dataset, config())))
    for start in (1, 5):
        assert rows(take(3, training_loader(dataset, config(), start))) == whole[4 * start : 4 * (start + 3)]


def test_processes_and_micro_batches_share_the_same_pictures(dataset: DetectionDataset) -> None:
    whole = rows(take(3, training_loader(dataset, config())))
    for world_size, accumulate in ((2, 1), (1, 2), (2, 2), (4, 1)):
        settings = config(f"train.accumulate={accumulate}")
        found = [
            row
            for rank in range(world_size)
            for row in rows(take(3 * accumulate, training_loader(dataset, settings, 0, rank, world_size)))
        ]
        assert sorted(found, key=str) == sorted(whole, key=str)


def test_another_seed_is_another_run(dataset: DetectionDataset) -> None:
    first, second = (rows(take(3, training_loader(dataset, config(f"train.seed={seed}")))) for seed in (0, 1))
    assert first != second
    assert len({row[2] for row in first + second}) == 24


def test_a_picture_is_augmented_anew_every_time(dataset: DetectionDataset) -> None:
    seen = [(row[1], row[4]) for row in rows(take(24, training_loader(dataset, config())))]
    assert len(set(seen)) > 0.8 * len(seen)


def test_global_generators_are_left_alone(dataset: DetectionDataset) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    take(3, training_loader(dataset, config(workers=1)))
    list(evaluation_loader(dataset, config(workers=1)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_empty_images(dataset: DetectionDataset) -> None:
    kept = rows(take(12, training_loader(dataset, config())))
    assert {row[1] for row in kept} == set(range(50, 62))
    assert [row[3] for row in kept if row[1] in (55, 56)][:1] == [([], [])]  # a crowd is no target
    left_out = rows(take(12, training_loader(dataset, config("data.keep_empty_images=false"))))
    assert {row[1] for row in left_out} == set(range(50, 62)) - {55, 56}


def test_batches_that_cannot_be_divided_are_refused(dataset: DetectionDataset) -> None:
    message = r"train\.batch_size=4 cannot be divided among 3 processes × train\.accumulate=2; make it a multiple of 6"
    with pytest.raises(UserError, match=message):
        training_loader(dataset, config("train.accumulate=2"), 0, 0, 3)


def loaded(loader: EvaluationLoader) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for batch in loader:
        assert len(set(batch.sizes)) == 1
        assert batch.pixels.shape[2:] == batch.sizes[0]  # nothing is padded
        for place, image_id in enumerate(batch.image_ids):
            assert image_id not in found
            found[image_id] = batch.pixels[place].numpy().tobytes()
    return found


def test_evaluation_sees_every_picture_once(dataset: DetectionDataset) -> None:
    alone = loaded(evaluation_loader(dataset, config()))
    assert sorted(alone) == list(range(50, 62))
    for batch_size, world_size, workers in ((1, 5, 0), (2, 1, 2), (5, 3, 0), (2, 20, 0)):
        settings = config(workers=workers)
        shares = [evaluation_loader(dataset, settings, batch_size, rank, world_size) for rank in range(world_size)]
        found = [loaded(share) for share in shares]
        assert {image_id: pixels for part in found for image_id, pixels in part.items()} == alone
        assert sum(len(part) for part in found) == 12
        assert sum(len(share) for share in shares) == len(evaluation_loader(dataset, settings, batch_size))


def test_evaluation_can_be_repeated(dataset: DetectionDataset) -> None:
    loader = evaluation_loader(dataset, config(workers=2), 3)
    assert len(loader) == len(list(loader)) == len(list(loader))


def test_validation_has_the_truth_and_a_seed(dataset: DetectionDataset) -> None:
    found = list(validation_loader(dataset, config()))
    assert len(found) == len(validation_loader(dataset, config())) == 12
    first = found[0]  # 20×30 to 30×45
    assert first.targets[0].boxes.tolist() == [[3, 4.5, 16.5, 16.5]]
    assert [batch.seeds for batch in found] == [[number] for number in range(12)]
    assert found[6].targets[0].boxes.shape == (0, 4)
    shares = [list(validation_loader(dataset, config(), rank, 2)) for rank in range(2)]
    assert rows(shares[0] + shares[1]) == rows(found[::2] + found[1::2])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_one_sentence(tmp_path: Path, dataset: DetectionDataset, workers: int) -> None:
    broken = damaged(dataset, tmp_path)
    (tmp_path / "3.png").write_bytes(b"no picture")
    message = r"^image 53: .*3\.png: not a picture of a known format\. Replace or remove it\.$"
    settings = config(workers=workers)
    for batches in (training_loader(broken, settings), evaluation_loader(broken, settings)):
        with pytest.raises(ImageError, match=message):
            take(12, iter(batches))


def damaged(dataset: DetectionDataset, folder: Path, *numbers: int) -> DetectionDataset:
    """The same pictures, those of some numbers cut short."""
    content = dataset.to_coco()
    for number, entry in enumerate(content["images"]):
        data = (Path(dataset.image_root) / entry["file_name"]).read_bytes()
        (folder / entry["file_name"]).write_bytes(data[: len(data) // 2] if number in numbers else data)
    (folder / "set.json").write_text(json.dumps(content))
    return open_dataset("coco", folder / "set.json", folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_another_picture_takes_the_place_of_a_broken_one(
    tmp_path: Path, dataset: DetectionDataset, workers: int
) -> None:
    """The next of its shape: all other places of the run stay as they were."""
    said: list[str] = []
    sound = take(12, training_loader(dataset, config()))
    batches = training_loader(damaged(dataset, tmp_path, 3, 7), config(workers=workers), warn=said.append)
    found = take(12, batches)
    stand_in = {53: 54, 57: 58}
    for before, after in zip(sound, found, strict=True):
        assert after.images.image_ids == [stand_in.get(i, i) for i in before.images.image_ids]
        assert after.seeds == before.seeds
    assert len(said) == 2
    assert re.fullmatch(r"image 5[37]: .*[37]\.png: cannot be decoded.* Until then another picture .*\.", said[0])


def test_settings_may_ask_to_stop_at_the_first_broken_picture(tmp_path: Path, dataset: DetectionDataset) -> None:
    settings = config("data.skip_unreadable_images=false")
    with pytest.raises(ImageError, match=r"3\.png: cannot be decoded"):
        take(12, training_loader(damaged(dataset, tmp_path, 3), settings, warn=lambda _: None))


def test_evaluation_goes_on_after_a_broken_picture(tmp_path: Path, dataset: DetectionDataset) -> None:
    said: list[str] = []
    broken = damaged(dataset, tmp_path, 3, 4)
    for batch_size in (1, 3):
        found = loaded(evaluation_loader(broken, config(), batch_size, warn=said.append))
        assert sorted(found) == [50, 51, 52, *range(55, 62)]
    assert len(said) == 4
    assert said[0].endswith("Until then it counts as a picture in which nothing was found.")
    (batch,) = [b for b in validation_loader(broken, config(), warn=said.append) if b.images.image_ids == [55]]
    assert batch.seeds == [5]


def test_too_many_broken_pictures_end_it(tmp_path: Path, dataset: DetectionDataset) -> None:
    said: list[str] = []
    tall = damaged(dataset, tmp_path, 1, 2, 5, 6, 9, 10)
    with pytest.raises(
        ImageError, match=r"6 pictures in a row cannot be used, the first is image .* cannot be decoded"
    ):
        take(12, training_loader(tall, config(), warn=said.append))
    nearly_all = damaged(dataset, tmp_path, *range(1, 12))
    said.clear()
    with pytest.raises(ImageError, match=r"more than 10 pictures cannot be used, one of them is .* cannot be decoded"):
        take(12, training_loader(nearly_all, config("data.aspect_grouping=false"), warn=said.append))
    assert len(said) == 10


def test_a_size_that_disagrees_with_the_file_is_named(tmp_path: Path, dataset: DetectionDataset) -> None:
    """Boxes made for a picture lying on its side would be trained on in silence."""
    content = dataset.to_coco()
    content["images"][0] |= {"height": 30, "width": 20}
    (tmp_path / "set.json").write_text(json.dumps(content))
    wrong = open_dataset("coco", tmp_path / "set.json", dataset.image_root)
    with pytest.raises(ImageError, match=r"^image 50: .*0\.png is 30x20 pixels when upright, .* say 20x30, .*\.$"):
        list(evaluation_loader(wrong, config()))


def test_float_images_for_the_torchvision_lineage(dataset: DetectionDataset) -> None:
    settings = config("input.resize=torchvision", "input.pad_to_multiple=32")
    batch = take(1, training_loader(dataset, settings))[0]
    assert batch.images.pixels.dtype == torch.float32
    assert all(edge % 32 == 0 for edge in batch.images.pixels.shape[2:])


SPAWNED = """
import multiprocessing, sys
from itertools import islice
from detector.config import load_config
from detector.datasets.loading.loader import training_loader
from detector.datasets.formats.open_dataset import open_dataset

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    config = load_config(None, sys.argv[2:])
    batches = training_loader(open_dataset("coco", sys.argv[1] + "/set.json", sys.argv[1]), config)
    for batch in islice(batches, 3):
        print(batch.images.image_ids, batch.seeds, int(batch.images.pixels.sum()))
    batches.close()
"""


@pytest.mark.slow  # a spawned worker imports torch anew
def test_spawned_workers_load_the_same(tmp_path: Path, dataset: DetectionDataset) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    command = [sys.executable, str(script), dataset.image_root, *SETTINGS, "data.num_workers=2"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    expected = [
        f"{batch.images.image_ids} {batch.seeds} {int(batch.images.pixels.sum())}"
        for batch in take(3, training_loader(dataset, config()))
    ]
    assert result.stdout.splitlines() == expected


@pytest.mark.gpu
@pytest.mark.usefixtures("real_cuda")
def test_batches_for_a_gpu_are_pinned(dataset: DetectionDataset) -> None:
    batches = training_loader(dataset, config(workers=1), device=torch.device("cuda"))
    batch = take(1, batches)[0]
    assert batch.images.pixels.is_pinned()
    assert all(target.boxes.is_pinned() for target in batch.targets if len(target.boxes))
