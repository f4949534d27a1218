"""Preparing training pictures: how many a second one worker makes, and beside it how others do it.

First the pixels are held against Pillow's own resize, which is that of the published lineage.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image
from torch.nn import functional as F

from benchmarking.measurements import Report
from benchmarking.sample_pictures import load_picture
from benchmarking.timing import cpus, ratio, take_turns, walls
from benchmarking.what_to_measure import Settings
from detector.config import Config, DataConfig, InputConfig, TrainConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.batch import PreparedImage, collate
from detector.datasets.loading.loader import training_loader
from detector.datasets.pictures.read import read_image
from detector.datasets.pictures.sizes import resized_size
from detector.datasets.pictures.transforms import TrainTransform
from detector.structures import ImageBatch
from detector.weights.lineages.torchvision_resnet import IMAGENET_MEAN, IMAGENET_STD

TABLE, RATIOS = "loading", "loading ratios"
SHORTEST, LONGEST = 800, 1333
PICTURES = 24  # that one round prepares
MADE_SIZE, MADE_QUALITY = (480, 640), 92  # of pictures that are made: those of COCO, in size and in bytes


def run(settings: Settings, report: Report) -> None:
    """Pixels, then the alternatives in turns in this process, then a worker process."""
    cv2_threads, threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)  # as in a worker
    torch.set_num_threads(1)
    try:
        with _open(settings) as dataset:
            _measure(settings, report, dataset)
    finally:
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(threads)


def _measure(settings: Settings, report: Report, dataset: DetectionDataset) -> None:
    paths = [dataset.path(index) for index in range(min(len(dataset), 4 if settings.quick else PICTURES))]
    config = _config()
    transform = TrainTransform(config.input, config.data.augment)
    unequal = [path for index, path in enumerate(paths) if not _is_like_pillow(dataset, transform, index)]
    if unequal:
        report.refuse("loading", f"{unequal[0]} (one of {len(unequal)}) is not resized as Pillow does")
        return
    ways: dict[str, Callable[[], object]] = {
        "Pillow: decode, resize; float32 (detectron2's way)": lambda: [_as_detectron2(path) for path in paths],
        "torchvision: decode, float32, resize (its reference)": lambda: [_as_torchvision(path) for path in paths],
        "ours": lambda: [_as_ours(dataset, transform, index) for index in range(len(paths))],
    }
    for way in ways.values():
        way()
    samples = take_turns(ways, settings.rounds, torch.device("cpu"))
    for name, taken in samples.items():
        rate, of_cpu = len(paths) / np.median(walls(taken)), len(paths) / np.median(cpus(taken))
        report.add(TABLE, {"way": name, "images / s": float(rate), "images / CPU s": float(of_cpu)})
    for slow in list(ways)[:2]:
        row = {"slow": slow, "fast": "ours", "× by CPU time": str(ratio(cpus(samples[slow]), cpus(samples["ours"])))}
        report.add(RATIOS, row)
    report.add(TABLE, {"way": "ours, one worker process", "images / s": _rate_of_worker(dataset, config, settings)})


def _config() -> Config:
    return Config(
        input=InputConfig(min_size_train=(SHORTEST,), max_size_train=LONGEST),
        data=DataConfig(num_workers=1),
        train=TrainConfig(batch_size=1),
    )


def _as_ours(dataset: DetectionDataset, transform: TrainTransform, index: int) -> ImageBatch:
    """What a worker does for a micro-batch of one picture."""
    sample = dataset[index]
    image = read_image(sample.path)
    pixels, target = transform(image, sample, np.random.default_rng(index))
    images, _ = collate([PreparedImage(pixels, target, (image.shape[0], image.shape[1]), sample.image_id)])
    return images


def _is_like_pillow(dataset: DetectionDataset, transform: TrainTransform, index: int) -> bool:
    """Whether the loader's picture, flipped back if it was flipped, has the pixels of Pillow's resize."""
    ours = _as_ours(dataset, transform, index).pixels[0].permute(1, 2, 0).numpy()
    expected = _pillow_resize(read_image(dataset.path(index)))
    return ours.shape == expected.shape and any(np.array_equal(ours, e) for e in (expected, expected[:, ::-1]))


def _pillow_resize(image: np.ndarray) -> np.ndarray:
    height, width = resized_size((image.shape[0], image.shape[1]), SHORTEST, LONGEST, "pil")
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _as_detectron2(path: str) -> torch.Tensor:
    """Pillow's picture, resized by it, flipped, as float32 [3, H, W], normalised."""
    image = _pillow_resize(np.asarray(Image.open(path).convert("RGB")))[:, ::-1]
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
    return (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


def _as_torchvision(path: str) -> torch.Tensor:
    """Its reference script: to float, flip; and what its model does first: normalise, resize without antialiasing."""
    pixels = torchvision.transforms.functional.pil_to_tensor(Image.open(path).convert("RGB")).flip(-1).float() / 255
    pixels = (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1) / 255) / (
        torch.tensor(IMAGENET_STD).view(3, 1, 1) / 255
    )
    size = resized_size((pixels.shape[1], pixels.shape[2]), SHORTEST, LONGEST, "torchvision")
    return F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)[0]


def _rate_of_worker(dataset: DetectionDataset, config: Config, settings: Settings) -> float:
    """Pictures a second that arrive from one worker process while this one does nothing else."""
    count = 8 if settings.quick else 10 * PICTURES
    stream = training_loader(dataset, config, device=torch.device("cpu"))
    try:
        for _ in range(4):  # the worker has started, and what it prepared ahead is used up
            next(stream)
        start = time.perf_counter()
        for _ in range(count):
            next(stream)
        return count / (time.perf_counter() - start)
    finally:
        stream.close()


@contextmanager
def _open(settings: Settings) -> Iterator[DetectionDataset]:
    if settings.annotations is not None and settings.images is not None:
        yield open_dataset("coco", settings.annotations, settings.images)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield _make_dataset(Path(folder), settings)


def _make_dataset(folder: Path, settings: Settings) -> DetectionDataset:
    """JPEG pictures of COCO's size, made of the one by moving its content around."""
    height, width = MADE_SIZE
    picture = load_picture(settings.picture, MADE_SIZE)
    images = []
    for index in range(PICTURES):
        name = f"{index}.jpg"
        Image.fromarray(np.roll(picture, 25 * index, axis=1)).save(folder / name, quality=MADE_QUALITY)
        images.append({"id": index, "file_name": name, "height": height, "width": width})
    boxes = [[40.0 * i, 30.0 * i, 120.0, 90.0] for i in range(8)]
    annotations = [
        {"id": 8 * i + k + 1, "image_id": i, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i in range(PICTURES)
        for k, box in enumerate(boxes)
    ]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return open_dataset("coco", folder / "annotations.json", folder)
