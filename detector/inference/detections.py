"""What `Predictor.predict` hands to its user: the detections of one picture, with names."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from detector.categories import CategoryMap
from detector.drawing.boxes import draw_detections
from detector.inference.sources import Picture, as_rgb
from detector.structures import Selection, Size


@dataclass(frozen=True)
class Found:
    """The detections of one picture, in the frame of the original image, on the CPU.

    boxes: [D, 4] float32 xyxy, absolute pixels. scores: [D] float32 in [0, 1], descending. labels: [D] int64, 1..K.
    image_size: (height, width) of the original image, upright. categories: what the labels mean.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: Size
    categories: CategoryMap

    @classmethod
    def from_detections(cls, detections: Selection, image_size: Size, categories: CategoryMap) -> "Found":
        """From detections that are already in the frame of the original image."""
        return cls(detections.boxes, detections.scores, detections.labels, image_size, categories)

    def __len__(self) -> int:
        """D, the number of detections."""
        return int(self.scores.shape[0])

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores.tolist(), strict=True))
        return f"Found({len(self)} in {self.image_size[0]}×{self.image_size[1]}: {found or 'nothing'})"

    @property
    def names(self) -> list[str]:
        """D class names."""
        return [self.categories.name_of(label) for label in self.labels.tolist()]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """In the COCO results form: one dict per detection with image_id, category_id, bbox (x, y, w, h) and score."""
        return [
            {
                "image_id": image_id,
                "category_id": self.categories.id_of(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],  # in Python's floats, so the subtraction does not round to float32
                "score": score,
            }
            for (x1, y1, x2, y2), score, label in zip(
                self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def draw(self, image: Picture) -> np.ndarray:
        """Draw the detections onto the picture they were found in.

        Args:
            image: that picture, in any form that `predict` accepts.

        Returns:
            [H, W, 3] uint8 RGB, a new array of the original image's size.
        """
        return draw_detections(as_rgb(image), self.boxes, self.labels, self.scores, self.categories.names)
