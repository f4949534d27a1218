"""Reference outputs of detectron2, as the folders beside `fixtures/detectron2/README.md` hold them.

A part of them lies in `tests/reference`; whatever folder has the same layout is found by what is in it. Classes there
are 0 … K−1 with K the background; here they are 1 … K with 0 the background: `labels` turns the one into the other.
"""

import copy
import json
import os
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from comparison import Rows
from torch import Tensor

from detector.config import Config
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import Selection, Size
from detector.weights.lineages.detectron2_config import channel_order
from detector.weights.lineages.detectron2_settings import read_settings
from detector.weights.lineages.detectron2_tensors import from_detectron2
from detector.weights.untrusted.foreign_file import read_foreign

CPU = torch.device("cpu")

# What travels with the project. Its pictures, weights and numbers are a part of what `recorded` may find.
EMBEDDED = Path(__file__).resolve().parents[1] / "reference" / "detectron2"


def recorded() -> Path | None:
    """The folder of all that was recorded, which lies beside the project on some machines; None elsewhere."""
    project = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("DETECTOR_SHARED", project.parent / "shared")) / "fixtures" / "detectron2"
    return folder if folder.is_dir() else None


def folders_with(*patterns: str) -> list[Path]:
    """The reference folders in which every pattern finds something; the embedded ones come first."""
    roots = [root for root in (EMBEDDED, recorded()) if root is not None]
    folders = [folder for root in roots for folder in sorted(root.iterdir()) if folder.is_dir()]
    return [f for f in folders if all(any(f.glob(p)) for p in patterns)]


def folder_id(folder: Path) -> str:
    """The folder's name; of an embedded one, that it is embedded too."""
    return f"embedded-{folder.name}" if folder.is_relative_to(EMBEDDED) else folder.name


@dataclass(frozen=True)
class Case:
    """Saved arrays of one batch of pictures (one, in all but `batch` cases) through one model; on a device."""

    folder: Path
    name: str
    device: torch.device = CPU

    def on(self, device: torch.device) -> "Case":
        """The same with its arrays on this device."""
        return replace(self, device=device)

    def __str__(self) -> str:
        return f"{folder_id(self.folder)}-{self.name}"

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        """Every recorded array by its name. `preprocessed` is made again where it was left out, which is exact."""
        with np.load(self.folder / f"case_{self.name}.npz") as file:
            arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        if "preprocessed" not in arrays and "image_u8_resized" in arrays:
            settings = yaml.safe_load((self.folder / "config.yaml").read_text())["MODEL"]
            mean, deviation = (torch.tensor(settings[key])[:, None, None] for key in ("PIXEL_MEAN", "PIXEL_STD"))
            arrays["preprocessed"] = ((arrays["image_u8_resized"] - mean) / deviation)[None]
        return {key: array.to(self.device) for key, array in arrays.items()}

    @property
    def pictures(self) -> list[Path]:
        manifest = json.loads((self.folder / "manifest.json").read_text())
        return [self.folder.parent / "images" / name for name in manifest["cases"][self.name]["images"]]

    @property
    def has_stages(self) -> bool:
        """Whether the inputs of every stage are there, which a batch lacks."""
        return "res4" in self.arrays

    def image(self, index: int, key: str) -> Tensor:
        """An array of one picture of the batch."""
        return self.arrays[key if len(self.pictures) == 1 else f"img{index}_{key}"]

    def size(self, index: int, key: str) -> Size:
        height, width = self.image(index, key).tolist()
        return height, width

    @property
    def thresholds(self) -> list[tuple[str, float]]:
        """(`det005`, 0.05) and whatever other score thresholds were recorded."""
        prefixes = {m[1] for key in self.arrays if (m := re.search(r"(det\d+)_boxes_net$", key))}
        return [(prefix, int(prefix[3:]) / 100) for prefix in sorted(prefixes)]


def inference_cases() -> list[Case]:
    """Every recorded batch."""
    return [
        Case(folder, path.stem.removeprefix("case_"))
        for folder in folders_with("config.yaml", "model.*", "case_*.npz")
        for path in sorted(folder.glob("case_*.npz"))
    ]


def checkpoints(folder: Path) -> list[Path]:
    """`model.pth`, `model.pkl`, or both."""
    return sorted(folder.glob("model.*"))


@dataclass(frozen=True)
class Reference:
    """A converted checkpoint. order: of the channels in the reference's arrays, BGR or RGB."""

    model: FasterRCNN
    config: Config
    order: str

    def on(self, device: torch.device) -> "Reference":
        """The same, on another device than the CPU a copy of it."""
        if device == CPU:
            return self
        return replace(self, model=copy.deepcopy(self.model).to(device))

    def rgb(self, pixels: Tensor) -> Tensor:
        """Saved pictures [..., 3, H, W] with their channels as ours."""
        return pixels.flip(-3) if self.order == "BGR" else pixels


@cache
def load_reference(checkpoint: Path, config_name: str = "config.yaml", config_folder: Path | None = None) -> Reference:
    """Convert and build. The model is in evaluation mode; it is shared, and not to be changed."""
    return fresh_reference(checkpoint, config_name, config_folder)


def fresh_reference(checkpoint: Path, config_name: str = "config.yaml", config_folder: Path | None = None) -> Reference:
    """As `load_reference`, but the caller's own."""
    settings = read_settings((config_folder or checkpoint.parent) / config_name)
    state, config = from_detectron2(read_foreign(checkpoint).tensors, settings, str(checkpoint))
    model = build_model(config)
    model.load_state_dict(state)
    return Reference(model.eval(), config, channel_order(settings))


# Theirs, in the shapes and with the labels that ours have


def labels(classes: Tensor) -> Tensor:
    """Class 0 … K−1 to label 1 … K."""
    return classes + 1


def class_logits(theirs: Tensor) -> Tensor:
    """[R, K+1] with the background last to background first."""
    return torch.cat((theirs[:, -1:], theirs[:, :-1]), dim=1)


def box_deltas(theirs: Tensor) -> Tensor:
    """[R, 4K] to [R, K, 4]."""
    return theirs.reshape(theirs.shape[0], theirs.shape[1] // 4, 4)


def rpn_logits(theirs: Tensor) -> Tensor:
    """[N, A, h, w] to [N, h·w·A]."""
    return torch.stack([image.movedim(0, -1).flatten() for image in theirs])


def rpn_deltas(theirs: Tensor) -> Tensor:
    """[N, A·4, h, w], the coordinate fastest, to [N, h·w·A, 4]."""
    return torch.stack([image.movedim(0, -1).reshape(-1, 4) for image in theirs])


def detections(case: Case, index: int, prefix: str, frame: str) -> Rows:
    """Saved detections. frame: `net` or `out`."""
    if frame == "net":
        boxes, rest = f"{prefix}_boxes_net", prefix
    else:
        boxes, rest = f"{prefix}_out_boxes", f"{prefix}_out"
    return Rows(
        case.image(index, boxes),
        case.image(index, f"{rest}_scores"),
        labels(case.image(index, f"{rest}_classes")),
    )


def rows(found: Selection) -> Rows:
    return Rows(found.boxes, found.scores, found.labels)


def read_json(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(path.read_text()))
