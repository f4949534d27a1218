"""The embedded set on disk: `{train,val,test}.json` in COCO form beside folders of PNG pictures."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detector.datasets.shapes import difficulty
from detector.datasets.shapes.scene import render_scene
from detector.errors import UserError

if sys.platform != "win32":
    import fcntl

_MARKER = "version.json"
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
    with _one_process_at_a_time(folder.with_name(f".{folder.name}.lock")):
        if _is_complete(folder):
            return
        if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).is_file():
            raise UserError(
                f"{folder}: holds files that are not the embedded set; to train on them set data.generate=null (which "
                "the quickstart's config does not), to render the set choose another folder."
            )
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir()
            _render(unfinished, progress)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


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


@contextlib.contextmanager
def _one_process_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock file. Windows has no such lock: there two processes both render, and the later rename wins."""
    with path.open("w") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _render(folder: Path, progress: bool) -> None:
    total = sum(difficulty.SPLITS.values())
    with tqdm(total=total, desc="rendering the embedded set", unit="picture", disable=not progress) as bar:
        for split_number, (split, count) in enumerate(difficulty.SPLITS.items()):
            (folder / split).mkdir()
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for index in range(count):
                pixels, found = render_scene(split_number, index)
                image_id, file_name = _FIRST_IMAGE_ID[split] + index, f"{index:05d}.png"
                _write_png(folder / split / file_name, pixels)
                height, width = pixels.shape[:2]
                images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
                annotations += [
                    {
                        "id": len(annotations) + position,
                        "image_id": image_id,
                        "category_id": _CATEGORY_IDS[annotation.name],
                        "bbox": list(annotation.box),
                        "area": annotation.area,
                        "iscrowd": 0,
                    }
                    for position, annotation in enumerate(found, start=1)
                ]
                bar.update()
            _write_json(folder / f"{split}.json", _coco(split, images, annotations))
    _write_json(folder / _MARKER, _marker())


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
