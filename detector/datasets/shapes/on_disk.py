"""The embedded set on disk: `{train,val,test}.json` in COCO form beside folders of PNG pictures."""

import json
import multiprocessing
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detector.datasets.shapes import difficulty
from detector.datasets.shapes.scene import Annotation, render_scene
from detector.disk import hold, whole_folder
from detector.errors import UserError
from detector.structures import Size

_MARKER = "version.json"
# Starting processes takes about a second, which so many pictures win back.
FEWEST_FOR_PROCESSES, MAX_PROCESSES = 100, 8
_FIRST_IMAGE_ID = {"train": 1, "val": 100_001, "test": 200_001}  # no id is shared between splits


def ensure_shapes(folder: str | Path, progress: bool = True) -> None:
    """Render the embedded set into `folder`, unless it is there, whole, and of this version.

    It is rendered beside its place and moved there when complete, so a folder of that name is never half a set. A
    second process that asks meanwhile waits. What was in `folder` before is removed if it was an embedded set (of
    another version, or with pictures missing).

    Raises:
        UserError: `folder` holds something else.
    """
    folder = Path(folder)
    if _is_complete(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold(folder.with_name(f".{folder.name}.lock"), on_wait=lambda: None):
        if _is_complete(folder):
            return
        if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).is_file():
            raise UserError(
                f"{folder}: holds files that are not the embedded set; to train on them set data.generate=null (which "
                "the quickstart's config does not), to render the set choose another folder."
            )
        with whole_folder(folder) as unfinished:
            _render(unfinished, progress)


def _is_complete(folder: Path) -> bool:
    try:
        if json.loads((folder / _MARKER).read_text(encoding="utf-8")) != _marker():
            return False
        return all(
            (folder / f"{split}.json").is_file() and len(os.listdir(folder / split)) >= count
            for split, count in difficulty.SPLITS.items()
        )
    except (OSError, ValueError):
        return False


def _marker() -> dict[str, Any]:
    return {"version": difficulty.VERSION, "seed": difficulty.SEED, "pictures": difficulty.SPLITS}


def _render(folder: Path, progress: bool) -> None:
    counts = difficulty.SPLITS
    numbered = [(split, number, index) for number, split in enumerate(counts) for index in range(counts[split])]
    for split in counts:
        (folder / split).mkdir()
    images: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in counts}
    tasks = [(folder / split / f"{index:05d}.png", number, index) for split, number, index in numbered]
    with closing(_rendered(tasks)) as scenes:
        bar = tqdm(scenes, desc="rendering the embedded set", total=len(tasks), unit="picture", disable=not progress)
        for (split, _, index), ((height, width), objects) in zip(numbered, bar, strict=True):
            image_id = _FIRST_IMAGE_ID[split] + index
            images[split].append({"id": image_id, "file_name": f"{index:05d}.png", "height": height, "width": width})
            annotations[split] += [
                {
                    "id": len(annotations[split]) + position,
                    "image_id": image_id,
                    "category_id": _CATEGORY_IDS[one.name],
                    "bbox": list(one.box),
                    "area": one.area,
                    "iscrowd": 0,
                }
                for position, one in enumerate(objects, start=1)
            ]
    for split in counts:
        _write_json(folder / f"{split}.json", _coco(split, images[split], annotations[split]))
    _write_json(folder / _MARKER, _marker())


_Task = tuple[Path, int, int]  # where the picture goes, the number of its split, and its own in the split
_Rendered = tuple[Size, list[Annotation]]


def _rendered(tasks: list[_Task]) -> Generator[_Rendered]:
    """Render all pictures, in this order; many of them in as many processes as there are processors for us."""
    processes = min(MAX_PROCESSES, available_processors())
    if len(tasks) < FEWEST_FOR_PROCESSES or processes == 1:
        yield from map(_render_picture, tasks)
        return
    # Not by fork: our threads would not come along, and what they hold would never be let go.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_render_picture, tasks, chunksize=8)


def _render_picture(task: _Task) -> _Rendered:
    path, split_number, index = task
    pixels, objects = render_scene(split_number, index)
    _write_png(path, pixels)
    return (pixels.shape[0], pixels.shape[1]), objects


def available_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_CATEGORY_IDS = {name: category_id for category_id, name in difficulty.CATEGORIES.items()}


def _coco(split: str, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {"description": f"Embedded set of rendered shapes, {split}", "version": str(difficulty.VERSION)},
        "categories": [{"id": category_id, "name": name} for category_id, name in difficulty.CATEGORIES.items()],
        "images": images,
        "annotations": annotations,
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Integers and text only, keys sorted: the same bytes everywhere."""
    path.write_bytes((json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n").encode())


def _write_png(path: Path, pixels: np.ndarray) -> None:
    # Level 1: noise hardly compresses, and reading is as fast.
    done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    path.write_bytes(encoded.tobytes())
