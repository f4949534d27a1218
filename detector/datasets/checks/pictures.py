"""The checks that open the pictures: that each can be decoded, has the stated size, and is there once."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from detector.datasets import fault_kinds as kinds
from detector.datasets.columns import Columns
from detector.datasets.fault_kinds import Kind
from detector.datasets.faults import Fault
from detector.datasets.pictures.read import MAX_PIXELS, ImageError, read_image, stored_size
from detector.structures import Size


@dataclass(frozen=True)
class Picture:
    """What a file turned out to be.

    size: (height, width) upright. stored: before its EXIF orientation. digest: of its upright pixels. For one that
    cannot be used these are None, and `fault` and `reason` say why.
    """

    size: Size | None = None
    stored: Size | None = None
    digest: bytes | None = None
    fault: Kind | None = None
    reason: str = ""


def open_pictures(
    columns: Columns,
    images: Path,
    workers: int,
    progress: Callable[[Iterable[Picture], int], Iterable[Picture]],
    max_pixels: int = MAX_PIXELS,
) -> list[Picture]:
    """Decode every picture, several at a time (decoders run outside of Python's lock).

    Args:
        images: folder that the file names start at.
        workers: threads.
        progress: wraps the iteration; given the number of pictures.
        max_pixels: larger pictures are faults.
    """
    look = partial(_open, images, max_pixels)
    names = list(columns.file_names)
    if workers == 1:
        return list(progress(map(look, names), len(names)))
    with ThreadPoolExecutor(workers) as pool:
        return list(progress(pool.map(look, names), len(names)))


def sizes_of(pictures: list[Picture]) -> np.ndarray:
    """[N, 2] int64 (height, width); 0 where the picture could not be decoded."""
    return np.array([picture.size or (0, 0) for picture in pictures], np.int64).reshape(-1, 2)


def check_pictures(columns: Columns, pictures: list[Picture]) -> list[Fault]:
    """Pictures that cannot be used, have another size than is stated, or the pixels of another one."""
    faults = []
    for image, picture in enumerate(pictures):
        if not columns.file_names[image]:
            continue
        if picture.fault is not None:
            faults.append(columns.image_fault(picture.fault, image, picture.reason))
            continue
        assert picture.size is not None
        stated = tuple(columns.sizes[image].tolist())
        if stated[0] > 0 and stated != picture.size:
            turned = stated == picture.stored
            detail = f"stated {_size(stated)}, the upright picture has {_size(picture.size)}"
            faults.append(columns.image_fault(kinds.EXIF_SIZE if turned else kinds.SIZE_DIFFERS, image, detail))
    return [*faults, *_same_pictures(columns, pictures)]


def _same_pictures(columns: Columns, pictures: list[Picture]) -> Iterator[Fault]:
    first_of: dict[bytes, int] = {}
    for image, picture in enumerate(pictures):
        if picture.digest is None:
            continue
        first = first_of.setdefault(picture.digest, image)
        # The same file under two ids is reported by the checks of the annotations.
        if os.path.normpath(columns.file_names[first]) != os.path.normpath(columns.file_names[image]):
            detail = f"also in image {columns.image_ids[first]} ({columns.file_names[first]})"
            yield columns.image_fault(kinds.SAME_PICTURE, image, detail)


def _open(images: Path, max_pixels: int, name: str) -> Picture:
    path = images / name
    if not name or not os.path.isfile(path):
        return Picture(fault=kinds.MISSING_PICTURE, reason=str(path))
    try:
        pixels = read_image(path, max_pixels, bit_depth=16)
        digest = hashlib.blake2b(pixels.data, digest_size=16, person=b"%dx%d" % pixels.shape[:2])
        return Picture((pixels.shape[0], pixels.shape[1]), stored_size(path), digest.digest())
    except ImageError as error:
        return Picture(fault=kinds.BROKEN_PICTURE, reason=str(error))


def _size(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
