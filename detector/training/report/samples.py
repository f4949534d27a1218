"""Sample pictures of a run, to see what the model has learnt: the same few at every evaluation, and its worst."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.config import InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.disk import write_atomically
from detector.drawing.sheet import draw_sheet
from detector.errors import UserError
from detector.evaluation.report.worst import read_as_network
from detector.training.report.logs import RunLog
from detector.training.run.output import FIRST_BATCH

SCORE_THRESHOLD = 0.5
MAX_EDGE = 800  # of the pictures for TensorBoard, which keeps every one in its event file
WORST = "worst"  # folder of the worst, in that of the samples; and what their names in TensorBoard begin with
_LONGEST = 150  # bytes of a name: file systems take 255


def write_samples(
    folder: Path,
    dataset: DetectionDataset,
    detections: Sequence[Mapping[str, Any]],
    count: int,
    iteration: int,
    log: RunLog,
    worst: Sequence[int] = (),
    settings: InputConfig | None = None,
) -> None:
    """Draw `count` pictures, named for their files: half of them, or one more, spread evenly over the dataset, and the
    same ones at every evaluation; the others are the worst.

    Args:
        folder: gets `<name>.jpg` of the former and `worst/<name>.jpg` of the latter, each replaced at every evaluation.
        dataset: with the ground truth.
        detections: COCO results, boxes in pixels of the original images. Scores below 0.5 are not drawn.
        count: of pictures; fewer where the dataset is smaller.
        iteration: for TensorBoard, which keeps them all.
        log: gets the pictures, and a warning for one that cannot be read or written.
        worst: ids of pictures with errors, the worst first.
        settings: how the network reads pictures.
    """
    positions = {image_id: place for place, image_id in enumerate(dataset.image_ids.tolist())}
    bad = [positions[image_id] for image_id in worst if image_id in positions][: count // 2]
    wanted = min(count - count // 2, len(dataset))
    spread = np.unique(np.linspace(0, len(dataset) - 1, wanted).round().astype(int)).tolist()
    taken = {FIRST_BATCH.removesuffix(".jpg"), WORST}
    for position in spread:
        name = picture_name(dataset, position, taken)
        _write_sample(
            folder / f"{name}.jpg", f"samples/{name}", dataset, position, detections, iteration, log, settings
        )
    taken = set()
    names = {position: picture_name(dataset, position, taken) for position in bad}
    for position, name in names.items():
        path = folder / WORST / f"{name}.jpg"
        _write_sample(path, f"{WORST}/{name}", dataset, position, detections, iteration, log, settings)
    _forget_others(folder / WORST, {f"{name}.jpg" for name in names.values()}, log)


def sample_pictures(folder: Path) -> list[Path]:
    """The pictures that `write_samples` has left in a folder, those of every evaluation before the worst."""
    places = [*sorted(folder.glob("*.jpg")), *sorted((folder / WORST).glob("*.jpg"))]
    return [path for path in places if path.name != FIRST_BATCH]


def picture_name(dataset: DetectionDataset, position: int, taken: set[str]) -> str:
    """What a picture's copies are called: its file's name, folders included, without the ending.

    Letters, digits, points and dashes of it stay; so they do in TensorBoard. Of a long name the end stays, where those
    of one set differ.

    Args:
        taken: names that are in use, in small letters; gets this one. A second picture of one name gets its id behind.
    """
    whole = dataset.file_name(position).replace("\\", "/")
    stem = whole[: whole.rindex(".")] if "." in whole.rpartition("/")[2] else whole
    name = re.sub(r"[^\w.-]", "_", stem).encode()[-_LONGEST:].decode(errors="ignore").lstrip(".") or "picture"
    while name.lower() in taken:
        name = f"{name}_{int(dataset.image_ids[position])}"
    taken.add(name.lower())
    return name


def _write_sample(
    path: Path,
    tag: str,
    dataset: DetectionDataset,
    position: int,
    detections: Sequence[Mapping[str, Any]],
    iteration: int,
    log: RunLog,
    settings: InputConfig | None,
) -> None:
    """Draw one picture into a JPEG and TensorBoard, detections beside ground truth."""
    sample = dataset[position]
    shown = [d for d in detections if d["image_id"] == sample.image_id and d["score"] >= SCORE_THRESHOLD]
    try:
        image = read_as_network(sample.path, settings)
        sheet = draw_sheet(image, sample.boxes, sample.labels, shown, dataset.categories)
        write_atomically(path, _jpeg(sheet))
    except (UserError, OSError) as error:
        log.warning(f"no sample picture of {dataset.file_name(position)}: {error}")
        return
    log.picture(iteration, tag, _shrink(sheet))


def _forget_others(folder: Path, names: set[str], log: RunLog) -> None:
    """Delete the worst pictures of an earlier evaluation."""
    try:
        for path in folder.glob("*.jpg"):
            if path.name not in names:
                path.unlink()
    except OSError as error:
        log.warning(f"{folder}: cannot delete an earlier sample picture ({error.strerror or error}).")


def _jpeg(image: np.ndarray) -> bytes:
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert encoded
    return data.tobytes()


def _shrink(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, MAX_EDGE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
