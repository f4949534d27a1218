"""Detections in the forms of other libraries and tools. Those libraries are imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from detector.categories import CategoryMap
from detector.errors import UserError
from detector.structures import Size

if TYPE_CHECKING:
    import pandas
    import supervision


class DetectedObject(Protocol):
    """What `detections.Detection` has of one object."""

    @property
    def name(self) -> str:
        """Its class."""

    @property
    def score(self) -> float:
        """How sure the network is of it, in [0, 1]."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels of the original image."""


class Detected(Protocol):
    """All that other forms are made of: `detections.Detections`, which says more about each."""

    @property
    def boxes(self) -> Tensor:
        """[D, 4] xyxy, pixels of the original image."""

    @property
    def scores(self) -> Tensor:
        """[D] in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """[D], 1 … K."""

    @property
    def names(self) -> list[str]:
        """D class names."""

    @property
    def image_size(self) -> Size:
        """(height, width) of the original image."""

    @property
    def categories(self) -> CategoryMap:
        """What the labels mean."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[DetectedObject]: ...


def to_dict(detections: Detected) -> dict[str, Any]:
    """Plain lists, ready for JSON, under the names of the attributes; see `Detections.to_dict`."""
    return {
        "boxes": detections.boxes.tolist(),
        "scores": detections.scores.tolist(),
        "labels": detections.labels.tolist(),
        "names": detections.names,
        "category_ids": _category_ids(detections),
        "image_size": list(detections.image_size),
    }


def to_dataframe(detections: Detected) -> pandas.DataFrame:
    """A pandas table, a row per detection; see `Detections.to_dataframe`. Raises UserError without pandas."""
    corners = detections.boxes.numpy()
    columns = {
        "name": np.array(detections.names, object),
        "score": detections.scores.numpy(),
        **{name: corners[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))},
        "label": detections.labels.numpy(),
        "category_id": np.array(_category_ids(detections), np.int64),
    }
    return _import("pandas").DataFrame(columns)


def to_supervision(detections: Detected) -> supervision.Detections:
    """As the library supervision has them; see `Detections.to_supervision`. Raises UserError without it."""
    return _import("supervision").Detections(
        xyxy=detections.boxes.numpy().copy(),
        confidence=detections.scores.numpy().copy(),
        class_id=detections.labels.numpy() - 1,
        data={"class_name": np.array(detections.names, dtype=str)},
    )


def to_label_studio(
    detections: Detected, image: str, from_name: str, to_name: str, model_version: str
) -> dict[str, Any]:
    """A task of Label Studio with predictions, boxes in percent of the picture; see `Detections.to_label_studio`."""
    height, width = detections.image_size
    regions = []
    for number, one in enumerate(detections, start=1):
        x1, y1, x2, y2 = one.box
        regions.append(
            {
                "id": f"box{number}",
                "type": "rectanglelabels",
                "from_name": from_name,
                "to_name": to_name,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": one.score,
                "value": {
                    "x": 100 * x1 / width,
                    "y": 100 * y1 / height,
                    "width": 100 * (x2 - x1) / width,
                    "height": 100 * (y2 - y1) / height,
                    "rotation": 0,
                    "rectanglelabels": [one.name],
                },
            }
        )
    mean = float(detections.scores.mean()) if len(detections) else 0.0
    prediction = {"model_version": model_version, "score": mean, "result": regions}
    return {"data": {to_name: image}, "predictions": [prediction]}


def _category_ids(detections: Detected) -> list[int]:
    return [detections.categories.id_of(label) for label in detections.labels.tolist()]


def _import(name: str) -> Any:
    """An optional library. Raises UserError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name != name:  # the library is there, and one that it needs is not
            raise
        raise UserError(f"this needs the library {name}, which is not installed; run `pip install {name}`.") from None
