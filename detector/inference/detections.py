"""What `Predictor.predict` returns: the detections of one picture, with names."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.categories import CategoryMap
from detector.drawing.annotate import draw_detections
from detector.inference.sources import Channels, Picture, as_rgb
from detector.model.postprocess import to_original_frame
from detector.printing import printable
from detector.structures import Selection, Size


@dataclass(frozen=True)
class Detections:
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
    def of_selection(
        cls, selection: Selection, input_size: Size, image_size: Size, categories: CategoryMap
    ) -> "Detections":
        """Take what the network selected, and move it from the input image to the original image and to the CPU.

        Boxes are clipped to the original image; those that have no area there are left out.

        Args:
            selection: in the frame of the input image, on any device.
            input_size: (height, width) of the input image without padding.
            image_size: (height, width) of the original image.
            categories: what the labels mean.
        """
        moved = to_original_frame(selection.to(torch.device("cpu")), input_size, image_size)
        return cls(moved.boxes, moved.scores, moved.labels, image_size, categories)

    def __len__(self) -> int:
        """D, the number of detections."""
        return int(self.scores.shape[0])

    def __repr__(self) -> str:
        pairs = zip(self.names, self.scores.tolist(), strict=True)
        listed = ", ".join(f"{printable(name, limit=40)} {score:.2f}" for name, score in pairs)
        return f"Detections({len(self)} in {self.image_size[0]}×{self.image_size[1]}: {listed or 'nothing'})"

    def at_least(self, score: float) -> "Detections":
        """The detections that score at least `score`, in the same frame and order."""
        kept = self.scores >= score
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept])

    @property
    def names(self) -> list[str]:
        """D class names."""
        return [self.categories.name_of(label) for label in self.labels.tolist()]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: a dict per detection with image_id, category_id, bbox [x, y, width, height] and score."""
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

    def draw(self, image: Picture, channels: Channels = "rgb") -> np.ndarray:
        """Draw the detections onto their picture.

        Args:
            image: that picture, in any form that `predict` accepts.
            channels: the order of colours of an array or tensor given, and of the array returned; "bgr" is OpenCV's.

        Returns:
            [H, W, 3] uint8, a new array of the original image's size.

        Raises:
            UserError: the picture cannot be read, or is of another form.
        """
        rgb = as_rgb(image, channels)
        drawn = draw_detections(rgb, self.boxes, self.labels, self.scores, self.categories.names)
        return drawn if channels == "rgb" else np.ascontiguousarray(drawn[..., ::-1])
