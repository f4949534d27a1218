"""Annotated objects to look at before training: of each class the smallest, the strangest shapes, and ordinary ones."""

from pathlib import Path

import cv2
import numpy as np

from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import ImageError, read_image
from detector.disk import write_atomically
from detector.drawing.annotate import draw_detections
from detector.drawing.close_up import close_up, short_name
from detector.drawing.mosaic import TILE, Row, draw_mosaic

MOST_CLASSES = 24  # the rarest first
_SMALLEST, _STRANGEST, _ORDINARY = 3, 3, 2


def write_ground_truth_sheet(dataset: DetectionDataset, path: Path) -> list[str]:
    """Draw objects of each class with their surroundings into one JPEG, the rarest class at the top.

    Args:
        dataset: whose objects; crowd regions are left out.
        path: of the JPEG.

    Returns:
        A line for each picture that cannot be read, whose objects are left out.

    Raises:
        UserError: the file cannot be written.
    """
    problems: list[str] = []
    owners = np.repeat(np.arange(len(dataset)), dataset.box_counts())
    names = dataset.categories.names
    objects = [np.flatnonzero((dataset.labels == label) & ~dataset.iscrowd) for label in range(1, len(names) + 1)]
    order = sorted(range(len(names)), key=lambda place: (len(objects[place]), place))
    rows = []
    for place in [place for place in order if len(objects[place])][:MOST_CLASSES]:
        tiles = []
        for box, why in notable(dataset.boxes[objects[place]]):
            index = int(objects[place][box])
            try:
                tiles.append(_tile(dataset, int(owners[index]), index, why))
            except (ImageError, OSError) as error:
                problems.append(str(error))
        pictures = len(np.unique(owners[objects[place]]))
        rows.append(Row(f"{names[place]}: {len(objects[place])} objects in {pictures} pictures", tiles))
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(draw_mosaic(rows), cv2.COLOR_RGB2BGR))
    assert encoded
    write_atomically(path, data.tobytes())
    return problems


def notable(boxes: np.ndarray) -> list[tuple[int, str]]:
    """The objects of a class that are worth a look, and why: places in `boxes` [B, 4] xyxy, each once.

    The smallest by area; the strangest by how far their height / width is from the median's; and ordinary ones, which
    are next to the median in area.
    """
    extents = boxes[:, 2:] - boxes[:, :2]
    areas, shapes = extents.prod(axis=1), np.log(extents[:, 1] / extents[:, 0])
    strangeness = np.abs(shapes - np.median(shapes))
    wanted = (
        ("smallest", np.argsort(areas, kind="stable"), _SMALLEST),
        ("strangest", np.argsort(-strangeness, kind="stable"), _STRANGEST),
        ("ordinary", np.argsort(np.abs(areas - np.median(areas)), kind="stable"), _ORDINARY),
    )
    chosen: dict[int, str] = {}
    for why, order, count in wanted:
        fresh = [place for place in order.tolist() if place not in chosen]
        chosen |= dict.fromkeys(fresh[:count], why)
    return list(chosen.items())


def _tile(dataset: DetectionDataset, owner: int, index: int, why: str) -> tuple[np.ndarray, str]:
    """The object with number `index` in picture `owner`, framed, with what is around it; and its caption."""
    shown = close_up(read_image(dataset.path(owner)), dataset.boxes[index], TILE)
    box, label = shown.place(dataset.boxes[index : index + 1]), dataset.labels[index : index + 1]
    framed = draw_detections(shown.pixels, box, label, None, dataset.categories.names, tags=False)
    x1, y1, x2, y2 = dataset.boxes[index].tolist()
    return framed, f"{why} {x2 - x1:.0f}×{y2 - y1:.0f}\n{short_name(dataset.file_name(owner))}"
