"""Candidates for errors of the annotations on disk: close-ups side by side, and a table to work through."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.disk import write_atomically
from detector.drawing.annotate import draw_detections
from detector.drawing.close_up import close_up, short_name
from detector.drawing.mosaic import Row, draw_mosaic
from detector.drawing.tags import Color
from detector.errors import UserError
from detector.evaluation.ground_truth import GroundTruth, xyxy
from detector.evaluation.report.label_errors import MOST, Kind, LabelError, label_errors
from detector.evaluation.report.worst import FALSE, MISSED, RIGHT, ShowPicture
from detector.evaluation.results import Results
from detector.printing import printable

COLUMNS = ("kind", "score", "file_name", "image_id", "annotation_id", "x", "y", "width", "height")
CLASSES = ("label", "suggested_label")
_EDGE, _IN_ROW = 220, 6  # pixels of a close-up, and how many stand side by side
_LEGEND = "; red: the model's box, orange: a label in doubt, green: other labels"
_SHEET_ENDING, _TABLE_ENDING = "label_errors.jpg", "label_errors.csv"
_COLORS: dict[Kind, Color] = {"missing label": FALSE, "wrong label": MISSED, "doubtful box": MISSED}
_MANY = {"missing label": "missing labels", "wrong label": "wrong labels", "doubtful box": "doubtful boxes"}


def write_label_errors(
    folder: Path,
    truth: GroundTruth,
    results: Results,
    show_picture: ShowPicture,
    prefix: str = "",
    most: int = MOST,
) -> list[str]:
    """Write `label_errors.csv`, and `label_errors.jpg` where the pictures are at hand.

    On the picture the model's box is red, other annotations are green, and the one in doubt is orange. Files of an
    earlier call are replaced; without candidates the table is empty and there is no picture.

    Args:
        folder: made where it is missing.
        truth: the annotations.
        results: a model's detections of the same pictures.
        show_picture: a picture by its id.
        prefix: of the files' names, such as `train_`.
        most: how many candidates.

    Returns:
        Lines that say what was found and written, and which pictures could not be read.

    Raises:
        UserError: a file cannot be written.
    """
    candidates = label_errors(truth, results, most)
    table, sheet = folder / f"{prefix}{_TABLE_ENDING}", folder / f"{prefix}{_SHEET_ENDING}"
    write_atomically(table, label_table(candidates, truth).encode("utf-8", "backslashreplace"))
    picture, problems = draw_label_errors(candidates, truth, show_picture)
    if picture is None:
        sheet.unlink(missing_ok=True)
    else:
        encoded, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        assert encoded
        write_atomically(sheet, data.tobytes())
    counts = Counter(one.kind for one in candidates)
    listed = ", ".join(f"{n} {kind if n == 1 else _MANY[kind]}" for kind, n in counts.items())
    places = table if picture is None else f"{sheet}, {table}"
    first = (
        f"labels to look at: {listed}, the surest first: {places}"
        if candidates
        else f"no labels to look at: {table} is empty"
    )
    return [first, *(f"not on the sheet: {problem}" for problem in problems)]


def label_table(candidates: Sequence[LabelError], truth: GroundTruth) -> str:
    """The candidates as CSV, one a line: boxes in pixels of the file, names as the annotations have them."""
    file_names = {number: name for name, number in truth.file_names.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *CLASSES))
    for one in candidates:
        name = printable(file_names.get(one.image_id, ""))
        box = (round(value, 2) for value in one.box)
        annotation = _annotation_name(one, truth)
        score = f"{one.score:.4f}"
        classes = (printable(one.label), printable(one.suggested))
        writer.writerow((one.kind, score, name, one.image_id, annotation, *box, *classes))
    return text.getvalue()


def draw_label_errors(
    candidates: Sequence[LabelError], truth: GroundTruth, show_picture: ShowPicture
) -> tuple[np.ndarray | None, list[str]]:
    """A close-up of each candidate, in their order, with all annotations in sight.

    Returns:
        [H, W, 3] uint8 RGB, None without a single picture; and a line for each picture that cannot be read.
    """
    file_names = {number: name for name, number in truth.file_names.items()}
    problems: dict[str, None] = {}
    tiles: list[tuple[np.ndarray, str]] = []
    for one in candidates:
        try:
            image = show_picture(one.image_id)
            if image is not None:
                tiles.append((_tile(one, image, truth), _caption(one, file_names.get(one.image_id, ""))))
        except (UserError, OSError) as error:
            problems[str(error)] = None
    rows = [
        Row(
            f"{start + 1} to {min(start + _IN_ROW, len(tiles))} of {len(tiles)}{'' if start else _LEGEND}",
            tiles[start : start + _IN_ROW],
        )
        for start in range(0, len(tiles), _IN_ROW)
    ]
    return (draw_mosaic(rows, _EDGE) if rows else None), list(problems)


def _tile(one: LabelError, image: np.ndarray, truth: GroundTruth) -> np.ndarray:
    """The candidate with what is around it."""
    box = np.array(one.box)
    shown = close_up(image, xyxy(box), _EDGE)
    rows = np.flatnonzero((truth.image_of == one.image_id) & ~truth.iscrowd)
    others = truth.boxes[rows if one.annotation is None else rows[rows != one.annotation]]
    boxes = np.concatenate((others, box[None]))
    colors = [*[RIGHT] * len(others), _COLORS[one.kind]]
    corners = shown.place(xyxy(boxes))
    height, width = shown.pixels.shape[:2]
    in_sight = np.all((corners[:, 2:] > 0) & (corners[:, :2] < [width, height]), axis=1)
    colors = [color for color, seen in zip(colors, in_sight, strict=True) if seen]
    nothing = np.ones(len(colors), np.int64)
    return draw_detections(shown.pixels, corners[in_sight], nothing, None, [""], tags=False, colors=colors)


def _caption(one: LabelError, file_name: str) -> str:
    classes = {
        "missing label": one.suggested,
        "wrong label": f"{one.label} → {one.suggested}",
        "doubtful box": one.label,
    }[one.kind]
    return f"{one.kind} {one.score:.2f}\n{printable(classes, 32)}\n{printable(short_name(file_name, 32))}"


def _annotation_name(one: LabelError, truth: GroundTruth) -> object:
    """The annotation's id, or where it stands in its file."""
    if one.annotation is None or not truth.annotation_names:
        return "" if one.annotation is None else one.annotation + 1
    return truth.annotation_names[one.annotation]
