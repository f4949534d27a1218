"""What `Predictor.predict` returns: the detections of one picture, with names."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from detector.categories import CategoryMap
from detector.drawing.annotate import draw_detections
from detector.errors import UserError
from detector.inference import other_forms
from detector.inference.choosing import Mask, chosen_rows, labels_of
from detector.inference.showing import cut_out, notebook_png, show_picture, write_picture
from detector.inference.sources import Channels, GivenPicture, Picture, in_order, picture_of
from detector.model.postprocess import to_original_frame
from detector.printing import printable
from detector.structures import Selection, Size

if TYPE_CHECKING:
    import pandas
    import supervision

LISTED = 3  # detections that `repr` shows one by one, and classes that it counts where there are more


@dataclass(frozen=True)
class Detection:
    """One object in a picture: what iterating over `Detections` gives.

    name, label, category_id: its class, as `CategoryMap` has them. score: in [0, 1]. box: x1, y1, x2, y2 in pixels of
    the original image.
    """

    name: str
    score: float
    box: tuple[float, float, float, float]
    label: int
    category_id: int


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one picture, in the frame of the original image, on the CPU.

    boxes: [D, 4] float32 xyxy, absolute pixels. scores: [D] float32 in [0, 1], descending. labels: [D] int64, 1..K.
    image_size: (height, width) of the original image, upright. categories: what the labels mean. picture: what
    `predict` was given, a reference and no copy, for drawing; None where nobody has said.

    `len(detections)`, `for detection in detections` and `detections[0]` give one `Detection` at a time; a slice, a mask
    (`detections[detections.scores > 0.8]`) or a list of numbers gives `Detections` again.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: Size
    categories: CategoryMap
    picture: GivenPicture | None = field(default=None, repr=False)

    @classmethod
    def of_selection(
        cls,
        selection: Selection,
        input_size: Size,
        image_size: Size,
        categories: CategoryMap,
        picture: GivenPicture | None = None,
    ) -> "Detections":
        """Take what the network selected, and move it from the input image to the original image and to the CPU.

        Boxes are clipped to the original image; those that have no area there are left out.

        Args:
            selection: in the frame of the input image, on any device.
            input_size: (height, width) of the input image without padding.
            image_size: (height, width) of the original image.
            categories: what the labels mean.
            picture: what was given, for drawing.
        """
        moved = to_original_frame(selection.to(torch.device("cpu")), input_size, image_size)
        return cls(moved.boxes, moved.scores, moved.labels, image_size, categories, picture)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same detections to the last bit, of pictures of one size; which picture is not asked."""
        if not isinstance(other, Detections):
            return NotImplemented
        pairs = ((self.boxes, other.boxes), (self.scores, other.scores), (self.labels, other.labels))
        same_frame = (self.image_size, self.categories) == (other.image_size, other.categories)
        return same_frame and all(torch.equal(one, another) for one, another in pairs)

    __hash__ = None  # type: ignore[assignment]  # as lists have none: the tensors can be changed

    def __len__(self) -> int:
        """D, the number of detections."""
        return int(self.scores.shape[0])

    def __iter__(self) -> Iterator[Detection]:
        """One `Detection` after the other, the surest first."""
        return (self[position] for position in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Detection: ...

    @overload
    def __getitem__(self, which: slice | Mask) -> "Detections": ...

    def __getitem__(self, which: int | slice | Mask) -> "Detection | Detections":
        """One detection by its number, or some of them.

        Args:
            which: a number, from the end where it is negative; a slice; a mask of D booleans or a list of numbers, each
                as tensor, array or list.

        Raises:
            IndexError: there is no detection of that number, or a mask is of another length.
            TypeError: `which` is something else.
        """
        rows = chosen_rows(which, len(self))
        if isinstance(rows, int):
            label = int(self.labels[rows])
            x1, y1, x2, y2 = self.boxes[rows].tolist()
            score, category = float(self.scores[rows]), self.categories.id_of(label)
            return Detection(self.categories.name_of(label), score, (x1, y1, x2, y2), label, category)
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows])

    def __repr__(self) -> str:
        if len(self) <= LISTED:
            parts = [f"{printable(one.name, limit=40)} {one.score:.2f}" for one in self]
        else:
            counts = Counter(self.names).most_common()
            parts = [f"{count} {printable(name, limit=40)}" for name, count in counts[:LISTED]]
            parts += ["…"] if len(counts) > LISTED else []
        height, width = self.image_size
        return f"Detections({len(self)} in {height}×{width}: {', '.join(parts) or 'nothing'})"

    def _repr_png_(self) -> bytes | None:
        """The picture with its detections, as notebooks show it; None where the picture is not known or gone."""
        if self.picture is None:
            return None
        try:
            return notebook_png(self.draw(channels="rgb"))
        except UserError:
            return None

    def at_least(self, score: float) -> "Detections":
        """The detections that score at least `score`, in the same frame and order."""
        return self[self.scores >= score]

    def of_classes(self, classes: Sequence[str | int]) -> "Detections":
        """The detections of some classes, given by name or by label 1..K. Raises UserError for an unknown one."""
        return self[torch.isin(self.labels, torch.tensor(labels_of(classes, self.categories), dtype=torch.int64))]

    @property
    def names(self) -> list[str]:
        """D class names."""
        return [self.categories.name_of(label) for label in self.labels.tolist()]

    def draw(
        self,
        image: Picture | None = None,
        channels: Channels | None = None,
        *,
        labels: bool = True,
        line_width: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> np.ndarray:
        """Draw the detections onto their picture.

        Args:
            image: that picture, in any form that `predict` accepts; None for the one that `predict` was given.
            channels: the order of colours of an array or tensor given, and of the array returned; "bgr" is OpenCV's.
                None for what `predict` was told.
            labels: whether to write class and score at each box. On a crowded picture those of the least sure are left
                out where they would bury objects.
            line_width: of the boxes, in pixels; None chooses by the size of the picture.
            classes: draw only these, by name or label.

        Returns:
            [H, W, 3] uint8, a new array of the original image's size.

        Raises:
            UserError: the picture is not known, cannot be read, or is of another form; or a class is unknown.
        """
        rgb, order = picture_of(self.picture, self.image_size, image, channels)
        some = self if classes is None else self.of_classes(classes)
        names = self.categories.names
        return in_order(draw_detections(rgb, some.boxes, some.labels, some.scores, names, labels, line_width), order)

    def save(
        self,
        path: str | Path,
        image: Picture | None = None,
        *,
        labels: bool = True,
        line_width: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        """Write the picture with its detections to a file, whole or not at all; arguments are those of `draw`.

        Args:
            path: ends with .png, .jpg, .jpeg or .webp, which says the format.

        Raises:
            UserError: as `draw`; the suffix is another one, or the file cannot be written.
        """
        write_picture(Path(path), self._drawn_rgb(image, labels, line_width, classes))

    def show(
        self,
        image: Picture | None = None,
        *,
        labels: bool = True,
        line_width: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        """Show the picture with its detections: in the notebook, or in the system's program for pictures.

        Arguments are those of `draw`. Raises UserError as it does, and where there is no program that shows pictures.
        """
        show_picture(self._drawn_rgb(image, labels, line_width, classes))

    def crop(self, image: Picture | None = None, channels: Channels | None = None, margin: int = 0) -> list[np.ndarray]:
        """Cut the detected objects out of their picture.

        Args:
            image, channels: as for `draw`.
            margin: pixels around each box that are cut out with it, as far as the picture goes.

        Returns:
            D arrays, each [h, w, 3] uint8, at least one pixel wide and high, in the order of the detections.

        Raises:
            UserError: the picture is not known or cannot be read.
        """
        rgb, order = picture_of(self.picture, self.image_size, image, channels)
        return [in_order(part, order) for part in cut_out(rgb, self.boxes, margin)]

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

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, ready for JSON: boxes, scores, labels, names, category_ids, and image_size [height, width]."""
        return other_forms.to_dict(self)

    def to_dataframe(self) -> "pandas.DataFrame":
        """A pandas table, a row per detection: name, score, x1, y1, x2, y2, label, category_id.

        Raises UserError where pandas is not installed.
        """
        return other_forms.to_dataframe(self)

    def to_supervision(self) -> "supervision.Detections":
        """As the library supervision has them: xyxy, confidence, class_id, and data["class_name"].

        Supervision counts classes from 0, so `class_id` is the label − 1. Raises UserError where it is not installed.
        """
        return other_forms.to_supervision(self)

    def to_label_studio(
        self, image: str | None = None, from_name: str = "label", to_name: str = "image", model_version: str = ""
    ) -> dict[str, Any]:
        """A task of Label Studio with these boxes as predictions, for people to correct; a list of them is an import.

        Args:
            image: address or path of the picture, as Label Studio reaches it; None for the path that was predicted on.
            from_name, to_name: names of RectangleLabels and Image in the project's labelling setup.
            model_version: what to call this model there.
        """
        if image is None:
            source = self.picture.source if self.picture else None
            image = str(source) if isinstance(source, (str, Path)) else ""
        return other_forms.to_label_studio(self, image, from_name, to_name, model_version)

    def _drawn_rgb(
        self, image: Picture | None, labels: bool, line_width: int | None, classes: Sequence[str | int] | None
    ) -> np.ndarray:
        """[H, W, 3] uint8 RGB, whatever order of colours the picture was given in."""
        rgb, _ = picture_of(self.picture, self.image_size, image)
        return self.draw(rgb, "rgb", labels=labels, line_width=line_width, classes=classes)
