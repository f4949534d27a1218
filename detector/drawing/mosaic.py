"""Many small pictures in rows, each row under a heading and each picture over its caption."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from detector.drawing.annotate import INK, PAPER
from detector.drawing.tags import blend
from detector.drawing.text import text_mask

TILE, GAP, LETTERS, HEADING = 160, 8, 11, 16  # pixels


@dataclass(frozen=True)
class Row:
    """A heading, and pictures [H, W, 3] uint8 RGB of any size with their captions, which may have several lines."""

    heading: str
    tiles: Sequence[tuple[np.ndarray, str]]


def draw_mosaic(rows: Sequence[Row], edge: int = TILE) -> np.ndarray:
    """All rows below each other.

    Args:
        edge: pixels of the square that every picture is made to fit, enlarged or reduced.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    columns = max(1, *(len(row.tiles) for row in rows), 1)
    lines = max((text.count("\n") + 1 for row in rows for _, text in row.tiles), default=1)
    line, heading = round(1.5 * LETTERS), round(2 * HEADING)
    caption = lines * line
    height, width = heading + edge + caption + GAP, columns * (edge + GAP) + GAP
    sheet = np.empty((max(1, len(rows)) * height + GAP, width, 3), np.uint8)
    sheet[:] = PAPER
    for number, row in enumerate(rows):
        top = number * height + GAP
        _write(sheet, row.heading, HEADING, top, GAP, width - 2 * GAP)
        for column, (picture, text) in enumerate(row.tiles):
            left = GAP + column * (edge + GAP)
            fitted = fit(picture, edge)
            sheet[top + heading : top + heading + fitted.shape[0], left : left + fitted.shape[1]] = fitted
            for place, words in enumerate(text.split("\n")):
                _write(sheet, words, LETTERS, top + heading + edge + place * line, left, edge)
    return sheet


def fit(picture: np.ndarray, edge: int) -> np.ndarray:
    """A picture [H, W, 3] whose longest edge is `edge` pixels."""
    height, width = picture.shape[:2]
    scale = edge / max(height, width)
    size = (max(1, min(edge, round(width * scale))), max(1, min(edge, round(height * scale))))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def _write(sheet: np.ndarray, text: str, letters: int, top: int, left: int, width: int) -> None:
    mask = text_mask(text, letters)[: sheet.shape[0] - top, :width]
    sheet[top : top + mask.shape[0], left : left + mask.shape[1]] = blend(mask, INK, PAPER)
