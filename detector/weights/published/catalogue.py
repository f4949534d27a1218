"""Weights that others published, by name: where they are, what they are, and what their authors measured.

Detectors: detectron2's model zoo (its MODEL_ZOO.md; licence CC BY-SA 3.0), whose file names end with the beginning of
the file's MD5. Backbones: torchvision's `ResNet*_Weights.IMAGENET1K_V1` (BSD), whose file names end with the beginning
of the SHA-256, and MSRA's original ResNets as the zoo distributes them, without checksum.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detector.errors import UserError, shown
from detector.weights.lineages.detectron2_settings import BASE_RCNN_C4, Settings

DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2"
PYTORCH = "https://download.pytorch.org/models"

THREE_TIMES: Settings = {"SOLVER.STEPS": [210000, 250000], "SOLVER.MAX_ITER": 270000}


@dataclass(frozen=True)
class Published:
    """One published file.

    url: where its authors serve it. checksum: algorithm and beginning of the hexadecimal digest, as they publish it, or
    None where they do not. megabytes: size in units of 2²⁰ bytes as they state it, else None. kind: whose names and
    conventions the tensors have. settings: detectron2's, beyond its defaults. ap: COCO box AP on val2017, in percent.
    """

    url: str
    checksum: tuple[Literal["md5", "sha256"], str] | None
    kind: Literal["detectron2", "torchvision", "caffe2"]
    depth: int
    megabytes: float | None = None
    settings: Mapping[str, Any] | None = None
    ap: float | None = None

    @property
    def is_detector(self) -> bool:
        """Whether it detects; else it is an ImageNet network to start a backbone from."""
        return self.kind == "detectron2"


def _zoo(config: str, path: str, depth: int, ap: float, changes: Settings) -> Published:
    return Published(
        url=f"{DETECTRON2}/COCO-Detection/{config}/{path}",
        checksum=("md5", path.removesuffix(".pkl")[-6:]),
        kind="detectron2",
        depth=depth,
        settings={**BASE_RCNN_C4, "MODEL.RESNETS.DEPTH": depth, **changes},
        ap=ap,
    )


def _torchvision(depth: int, digest: str, megabytes: float) -> Published:
    url = f"{PYTORCH}/resnet{depth}-{digest}.pth"
    return Published(url, checksum=("sha256", digest), kind="torchvision", depth=depth, megabytes=megabytes)


def _msra(depth: int) -> Published:
    url = f"{DETECTRON2}/ImageNetPretrained/MSRA/R-{depth}.pkl"
    return Published(url, checksum=None, kind="caffe2", depth=depth)


PUBLISHED: Mapping[str, Published] = {
    "R50-C4-1x": _zoo("faster_rcnn_R_50_C4_1x", "137257644/model_final_721ade.pkl", 50, 35.7, {}),
    "R50-C4-3x": _zoo("faster_rcnn_R_50_C4_3x", "137849393/model_final_f97cb7.pkl", 50, 38.4, THREE_TIMES),
    "R101-C4-3x": _zoo("faster_rcnn_R_101_C4_3x", "138204752/model_final_298dad.pkl", 101, 41.1, THREE_TIMES),
    "ResNet-18": _torchvision(18, "f37072fd", 44.661),
    "ResNet-34": _torchvision(34, "b627a593", 83.275),
    "ResNet-50": _torchvision(50, "0676ba61", 97.781),
    "ResNet-101": _torchvision(101, "63fe2227", 170.511),
    "ResNet-152": _torchvision(152, "394f9c45", 230.434),
    "MSRA-R-50": _msra(50),
    "MSRA-R-101": _msra(101),
}


def find_weights(name: str | Path) -> Path | None:
    """The file that weights are named by; None for a published name, whose file is fetched when it is used.

    Raises:
        UserError: there is no such file and no such name; the nearest name is suggested.
    """
    if str(name) in PUBLISHED:
        return None
    path = Path(os.path.expanduser(str(name)))
    if os.path.isdir(path) or not os.path.exists(path):  # unlike Path's own, these never raise, whatever the name
        what = "is a folder" if os.path.isdir(path) else "there is no such file, and no such published name"
        raise UserError(f"weights {shown(str(name))}: {what}; {suggest(str(name))}")
    return path


def suggest(name: str) -> str:
    """What to say about a name that is neither a file nor published: the nearest names, or all of them."""
    by_folded = {known.lower(): known for known in PUBLISHED}
    near = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.75)
    return f"did you mean {by_folded[near[0]]}?" if near else f"published names are {', '.join(PUBLISHED)}."
