"""A val split taken from the training pictures, where a data set has none."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import image_size
from detector.errors import UserError

_READ = 2**16  # bytes of a picture that are hashed, with its size: pictures that differ only later stay together


def hold_out(dataset: DetectionDataset, share: float, seed: int) -> tuple[DetectionDataset, DetectionDataset]:
    """Part a data set in two by the contents of its pictures.

    A picture's side depends on the seed, its bytes and the other pictures' bytes: neither on its name nor on the order
    of the annotations, and two copies of one picture are on the same side. Of a set that grows, only pictures near the
    border change sides.

    Args:
        dataset: with two different pictures or more.
        share: of the different pictures that make the second part; at least one, and not all.
        seed: another one chooses other pictures.

    Returns:
        What is left to train on, and the part held out.

    Raises:
        UserError: there are not two different pictures, or none that can be read.
    """
    digests = [_digest(Path(dataset.path(index)), dataset.file_name(index), seed) for index in range(len(dataset))]
    distinct = sorted(set(digests))
    if len(distinct) < 2:
        if len(dataset) > 1:
            image_size(dataset.path(0))  # no picture at all, such as a pointer of Git LFS, is the likelier cause
        raise UserError(
            f"{dataset.annotation_path}: has only one picture, of which no val split can be held out; set "
            "data.hold_out=0 to train without one, or with --split train to score it."
        )
    count = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    held = set(distinct[:count])
    is_held = np.array([digest in held for digest in digests], bool)
    return subset(dataset, np.flatnonzero(~is_held)), subset(dataset, np.flatnonzero(is_held))


def subset(dataset: DetectionDataset, indices: np.ndarray) -> DetectionDataset:
    """The data set of some pictures, [M] int64 places in it, with their boxes; ids stay.

    `annotation_path` stays too, and is no longer the file of exactly these pictures, so scoring takes the data set.
    """
    names = [dataset.names[_name(dataset, index)] for index in indices.tolist()]
    counts = dataset.box_counts()[indices]
    starts = (dataset.box_ends - dataset.box_counts())[indices]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.repeat(starts, counts) + within
    return replace(
        dataset,
        image_ids=dataset.image_ids[indices],
        sizes=dataset.sizes[indices],
        names=np.concatenate([np.empty(0, np.uint8), *names]),
        name_ends=np.cumsum([len(name) for name in names], dtype=np.int64),
        box_ends=np.cumsum(counts, dtype=np.int64),
        boxes=dataset.boxes[rows],
        labels=dataset.labels[rows],
        iscrowd=dataset.iscrowd[rows],
        areas=dataset.areas[rows],
        dropped=0,
        is_coco_file=False,
    )


def _name(dataset: DetectionDataset, index: int) -> slice:
    return slice(int(dataset.name_ends[index - 1]) if index else 0, int(dataset.name_ends[index]))


def _digest(path: Path, name: str, seed: int) -> bytes:
    """Of a picture's beginning and size, or of the name of one that cannot be read, which reading will report."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=16)
    try:
        with path.open("rb") as stream:
            digest.update(stream.read(_READ))
        digest.update(str(path.stat().st_size).encode())
    except OSError:
        digest.update(name.encode("utf-8", "surrogateescape"))
    return digest.digest()
