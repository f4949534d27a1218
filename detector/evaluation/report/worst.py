"""The pictures on which a model errs most: false detections and missed objects, with the ground truth beside them."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detector.config import InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import read_image
from detector.drawing.annotate import draw_detections
from detector.drawing.tags import Color
from detector.errors import UserError
from detector.evaluation.ground_truth import GroundTruth, xyxy
from detector.evaluation.report.analyse import Analysis
from detector.evaluation.report.markup import escape, note, section
from detector.evaluation.results import Results

COUNT = 24
EDGE = 480  # pixels of the longer edge of a picture in the page
MOST_BYTES = 270_000  # of one pair of pictures, so that the page stays below 10 MB whatever they show
RIGHT: Color = (40, 190, 90)
FALSE: Color = (235, 50, 60)
MISSED: Color = (255, 165, 20)

# From the id of a picture to its pixels, [H, W, 3] uint8 RGB; None where nobody knows the file. Raises UserError where
# it cannot be read.
ShowPicture = Callable[[int], np.ndarray | None]


def no_pictures(_image_id: int) -> np.ndarray | None:
    """Where the pictures are not at hand."""
    return None


def pictures_of(dataset: DetectionDataset, settings: InputConfig | None = None) -> ShowPicture:
    """The pictures of a dataset, read as the network that `settings` belong to reads them."""
    places = {image_id: place for place, image_id in enumerate(dataset.image_ids.tolist())}

    def show(image_id: int) -> np.ndarray | None:
        return read_as_network(dataset.path(places[image_id]), settings) if image_id in places else None

    return show


def pictures_in(folder: Path, truth: GroundTruth, settings: InputConfig | None = None) -> ShowPicture:
    """The annotated pictures in a folder, read as by `pictures_of`."""
    names = {number: name for name, number in truth.file_names.items()}

    def show(image_id: int) -> np.ndarray | None:
        return read_as_network(folder / names[image_id], settings) if names.get(image_id) else None

    return show


def read_as_network(path: str | Path, settings: InputConfig | None) -> np.ndarray:
    """A picture [H, W, 3] uint8 RGB, with the limit and the bit depth of the network that `settings` belong to.

    Raises:
        UserError: it cannot be read.
    """
    limits = settings or InputConfig()
    return read_image(path, limits.max_pixels, limits.bit_depth)


@dataclass(frozen=True)
class WorstPicture:
    """A picture with errors. detections, boxes: rows of the results and of the annotations, [·] int64."""

    image_id: int
    name: str
    detections: np.ndarray
    boxes: np.ndarray
    false: int
    missed: int


def worst_pictures(truth: GroundTruth, results: Results, analysis: Analysis, count: int = COUNT) -> list[WorstPicture]:
    """The pictures with most errors, false detections (from the report's threshold on) and missed objects together."""
    shown = (results.scores >= analysis.threshold) & ~analysis.ignored
    ids = np.sort(truth.image_ids)
    false = _count(results.image_of[shown & ~analysis.right], ids)
    missed = _count(truth.image_of[analysis.missed_at], ids)
    order = np.lexsort((ids, -(false + missed)))[:count]
    names = {number: name for name, number in truth.file_names.items()}
    return [
        WorstPicture(
            image_id=int(ids[i]),
            name=names.get(int(ids[i])) or f"image {ids[i]}",
            detections=np.flatnonzero(shown & (results.image_of == ids[i])),
            boxes=np.flatnonzero(truth.image_of == ids[i]),
            false=int(false[i]),
            missed=int(missed[i]),
        )
        for i in order.tolist()
        if false[i] + missed[i] > 0
    ]


def worst_section(
    worst: Sequence[WorstPicture], truth: GroundTruth, results: Results, analysis: Analysis, show_picture: ShowPicture
) -> str:
    """The worst pictures, each with its detections and its ground truth; without the file, its name and counts."""
    if not worst:
        return section("worst", "Worst pictures", "<p>No picture has an error.</p>")
    cards = []
    for one in worst:
        counts = f"{one.false} false, {one.missed} missed"
        try:
            image = show_picture(one.image_id)
            shown = "" if image is None else _pair(image, one, truth, results, analysis)
        except (UserError, OSError) as error:
            shown = f'<p class="none">{escape(error, 200)}</p>'
        cards.append(f'<div class="card pair"><h3>{escape(one.name)} <small>{counts}</small></h3>{shown}</div>')
    legend = (
        '<span><i class="right"></i>right</span><span><i class="false"></i>false</span>'
        '<span><i class="missed"></i>missed</span>'
    )
    return section(
        "worst",
        "Worst pictures",
        note(
            f"Most errors first. Left: detections with score ≥ {analysis.threshold:.3f}. Right: ground truth."
            f' <span class="legend">{legend}</span>'
        ),
        f'<div class="row">{"".join(cards)}</div>',
    )


def _pair(image: np.ndarray, one: WorstPicture, truth: GroundTruth, results: Results, analysis: Analysis) -> str:
    """Detections and ground truth as one picture inside the page."""
    scale = min(1.0, EDGE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    detected = draw_detections(
        small,
        xyxy(results.boxes[one.detections]) * scale,
        _labels(results.category_of[one.detections], truth),
        results.scores[one.detections],
        truth.categories.names,
        colors=[RIGHT if right else FALSE for right in analysis.right[one.detections]],
    )
    solid = one.boxes[~truth.iscrowd[one.boxes]]
    expected = draw_detections(
        small,
        xyxy(truth.boxes[solid]) * scale,
        _labels(truth.category_of[solid], truth),
        None,
        truth.categories.names,
        colors=[MISSED if missed else RIGHT for missed in analysis.missed_at[solid]],
    )
    gap = np.full((size[1], 6, 3), 255, np.uint8)
    data = base64.b64encode(_jpeg(np.concatenate((detected, gap, expected), axis=1))).decode("ascii")
    text = f"{one.name}: detections and ground truth"
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(text, 120)}">'


def _jpeg(picture: np.ndarray) -> bytes:
    """An [H, W, 3] RGB picture as JPEG of at most `MOST_BYTES`, as good as that allows."""
    image = Image.fromarray(picture)
    for quality in (82, 60, 35, 10):
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        if stream.tell() <= MOST_BYTES:
            break
    return stream.getvalue()


def _labels(category_of: np.ndarray, truth: GroundTruth) -> np.ndarray:
    return np.array([truth.categories.label_of(number) for number in category_of.tolist()], np.int64)


def _count(image_of: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """How often each of the sorted ids occurs."""
    return np.bincount(np.searchsorted(ids, image_of), minlength=len(ids))
