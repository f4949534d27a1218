"""Reference outputs of mmdetection, as the folders beside `fixtures/mmdetection/README.md` hold them.

A part of them lies in `tests/reference`. Classes there are 0 … K−1 with K the background.
"""

import copy
import json
import os
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from comparison import Rows
from torch import Tensor

from detector.config import Config
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import Size
from detector.weights.lineages.mmdetection_config_text import read_mmdetection_config
from detector.weights.lineages.mmdetection_tensors import from_mmdetection
from detector.weights.untrusted.foreign_file import read_foreign

EMBEDDED = Path(__file__).resolve().parents[1] / "reference" / "mmdetection"
PICTURES = EMBEDDED.parent / "detectron2" / "images"  # the same ones


def recorded() -> Path | None:
    """The folder of all that was recorded, which lies beside the project on some machines; None elsewhere."""
    project = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("DETECTOR_SHARED", project.parent / "shared")) / "fixtures" / "mmdetection"
    return folder if folder.is_dir() else None


def folders() -> list[Path]:
    """The folders with a checkpoint: all that are recorded where they are at hand, else the embedded ones."""
    root = recorded() or EMBEDDED
    return sorted(path.parent for path in root.glob("*/checkpoint.pth"))


@dataclass(frozen=True)
class Case:
    """Saved arrays of one batch of pictures (one, in all but `batch` cases) through one model."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return f"{self.folder.name}-{self.name}"

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        """Every recorded array by its name."""
        with np.load(self.folder / f"case_{self.name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}

    @property
    def pictures(self) -> list[Path]:
        names = json.loads((self.folder / "manifest.json").read_text())["cases"][self.name]["images"]
        root = self.folder.parent / "images"
        return [(root if root.is_dir() else PICTURES) / name for name in names]

    @property
    def has_stages(self) -> bool:
        """Whether the inputs of every stage are there, which a batch and the cases of version 2 lack."""
        return "backbone_0" in self.arrays

    def image(self, index: int, key: str) -> Tensor:
        """An array of one picture of the batch."""
        return self.arrays[key if len(self.pictures) == 1 else f"img{index}_{key}"]

    def has(self, key: str) -> bool:
        return key in self.arrays or f"img0_{key}" in self.arrays

    def size(self, index: int, key: str) -> Size:
        height, width = self.image(index, key).tolist()
        return height, width

    def maps(self, name: str) -> list[Tensor]:
        """`name_0`, `name_1`, … as far as they are there."""
        numbers = sorted(int(m[1]) for key in self.arrays if (m := re.fullmatch(rf"{name}_(\d)", key)))
        return [self.arrays[f"{name}_{number}"] for number in numbers]

    def detections(self, index: int, prefix: str, frame: str) -> Rows:
        """Saved detections. prefix: `det005` or `det002`; frame: `net` or `out`."""
        boxes, scores, classes = (
            self.image(index, f"{prefix}_{frame}_{kind}") for kind in ("boxes", "scores", "labels")
        )
        return Rows(boxes, scores, classes + 1)


THRESHOLDS = (("det005", 0.05), ("det002", 0.02))


def inference_cases() -> list[Case]:
    """Every recorded batch."""
    return [
        Case(folder, path.stem.removeprefix("case_"))
        for folder in folders()
        for path in sorted(folder.glob("case_*.npz"))
    ]


@dataclass(frozen=True)
class Reference:
    """One of their models as ours, in evaluation mode. is_rgb: theirs wants RGB."""

    model: FasterRCNN
    config: Config
    is_rgb: bool

    def rgb(self, pixels: Tensor) -> Tensor:
        """Saved pixels [..., 3, H, W] in RGB order, as our network wants them."""
        return pixels if self.is_rgb else pixels.flip(-3)


@cache
def load_reference(folder: Path) -> Reference:
    """Convert and build. It is shared, and not to be changed."""
    return fresh_reference(folder)


def fresh_reference(folder: Path) -> Reference:
    """As `load_reference`, but the caller's own."""
    tensors = read_foreign(folder / "checkpoint.pth").tensors
    state, theirs = from_mmdetection(tensors, read_mmdetection_config(folder / "config.py"), folder.name)
    model = build_model(theirs.config)
    model.load_state_dict(copy.deepcopy(state))
    return Reference(model.eval(), theirs.config, theirs.is_rgb)
