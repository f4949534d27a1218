"""Weights that others published, by name: where they are, what they are, and what their authors measured.

Detectors: detectron2's model zoo (its MODEL_ZOO.md; licence CC BY-SA 3.0), whose file names end with the beginning of
the file's MD5; torchvision's own two (by the metadata of its weights; BSD) and mmdetection's (`mmdetection_zoo`;
Apache-2.0), whose file names end with the beginning of the SHA-256. Backbones: torchvision's
`ResNet*_Weights.IMAGENET1K_V1` (BSD), and MSRA's original ResNets as the zoo distributes them, without checksum.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from detector.errors import UserError, shown
from detector.printing import printable
from detector.weights.lineages.detectron2_settings import (
    BASE_RCNN_C4,
    BASE_RCNN_DILATED_C5,
    BASE_RCNN_FPN,
    Settings,
)
from detector.weights.published.entry import Published
from detector.weights.published.mmdetection_zoo import MMDETECTION

__all__ = ["PUBLISHED", "Published", "find_weights", "suggest"]

DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2"
PYTORCH = "https://download.pytorch.org/models"

BASES: Mapping[str, Settings] = {"C4": BASE_RCNN_C4, "FPN": BASE_RCNN_FPN, "DC5": BASE_RCNN_DILATED_C5}
THREE_TIMES: Settings = {"SOLVER.STEPS": [210000, 250000], "SOLVER.MAX_ITER": 270000}
RESNEXT: Settings = {
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
}


def _zoo(config: str, path: str, depth: int, ap: float, changes: Settings) -> Published:
    kind = next(kind for kind in BASES if kind in config)
    return Published(
        url=f"{DETECTRON2}/COCO-Detection/{config}/{path}",
        checksum=("md5", path.removesuffix(".pkl")[-6:]),
        kind="detectron2",
        depth=depth,
        settings={**BASES[kind], "MODEL.RESNETS.DEPTH": depth, **changes},
        ap=ap,
        network=f"{'ResNeXt-101-32x8d' if changes.keys() >= RESNEXT.keys() else f'ResNet-{depth}'}-{kind}",
    )


def _torchvision(depth: int, digest: str, megabytes: float) -> Published:
    url = f"{PYTORCH}/resnet{depth}-{digest}.pth"
    return Published(url, checksum=("sha256", digest), kind="torchvision", depth=depth, megabytes=megabytes)


def _torchvision_detector(name: str, digest: str, megabytes: float, ap: float, network: str) -> Published:
    url = f"{PYTORCH}/{name}_coco-{digest}.pth"
    return Published(url, ("sha256", digest), "torchvision", 50, megabytes, ap=ap, network=network)


def _msra(depth: int) -> Published:
    url = f"{DETECTRON2}/ImageNetPretrained/MSRA/R-{depth}.pkl"
    return Published(url, checksum=None, kind="caffe2", depth=depth)


PUBLISHED: Mapping[str, Published] = {
    "R50-C4-1x": _zoo("faster_rcnn_R_50_C4_1x", "137257644/model_final_721ade.pkl", 50, 35.7, {}),
    "R50-C4-3x": _zoo("faster_rcnn_R_50_C4_3x", "137849393/model_final_f97cb7.pkl", 50, 38.4, THREE_TIMES),
    "R101-C4-3x": _zoo("faster_rcnn_R_101_C4_3x", "138204752/model_final_298dad.pkl", 101, 41.1, THREE_TIMES),
    "R50-DC5-1x": _zoo("faster_rcnn_R_50_DC5_1x", "137847829/model_final_51d356.pkl", 50, 37.3, {}),
    "R50-DC5-3x": _zoo("faster_rcnn_R_50_DC5_3x", "137849425/model_final_68d202.pkl", 50, 39.0, THREE_TIMES),
    "R101-DC5-3x": _zoo("faster_rcnn_R_101_DC5_3x", "138204841/model_final_3e0943.pkl", 101, 40.6, THREE_TIMES),
    "R50-FPN-1x": _zoo("faster_rcnn_R_50_FPN_1x", "137257794/model_final_b275ba.pkl", 50, 37.9, {}),
    "R50-FPN-3x": _zoo("faster_rcnn_R_50_FPN_3x", "137849458/model_final_280758.pkl", 50, 40.2, THREE_TIMES),
    "R101-FPN-3x": _zoo("faster_rcnn_R_101_FPN_3x", "137851257/model_final_f6e8b1.pkl", 101, 42.0, THREE_TIMES),
    "X101-FPN-3x": _zoo(
        "faster_rcnn_X_101_32x8d_FPN_3x", "139173657/model_final_68b088.pkl", 101, 43.0, {**THREE_TIMES, **RESNEXT}
    ),
    "fasterrcnn_resnet50_fpn": _torchvision_detector(
        "fasterrcnn_resnet50_fpn", "258fb6c6", 159.743, 37.0, "ResNet-50-FPN"
    ),
    "fasterrcnn_resnet50_fpn_v2": _torchvision_detector(
        "fasterrcnn_resnet50_fpn_v2", "dd69338a", 167.104, 46.7, "ResNet-50-FPN, v2"
    ),
    **MMDETECTION,
    "ResNet-18": _torchvision(18, "f37072fd", 44.661),
    "ResNet-34": _torchvision(34, "b627a593", 83.275),
    "ResNet-50": _torchvision(50, "0676ba61", 97.781),
    "ResNet-101": _torchvision(101, "63fe2227", 170.511),
    "ResNet-152": _torchvision(152, "394f9c45", 230.434),
    "MSRA-R-50": _msra(50),
    "MSRA-R-101": _msra(101),
}


WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")


def find_weights(name: str | Path) -> Path | None:
    """The file that weights are named by; None for a published name, whose file is fetched when it is used.

    Raises:
        UserError: there is no such file and no such name; the nearest name, or the files there are, are suggested.
    """
    if str(name) in PUBLISHED:
        return None
    if "://" in str(name):
        raise UserError(f"weights {shown(str(name))}: is an address; fetch the file, and give its path.")
    path = Path(os.path.expanduser(str(name)))
    if os.path.isdir(path) or not os.path.exists(path):  # unlike Path's own, these never raise, whatever the name
        what = "is a folder" if os.path.isdir(path) else "there is no such file, and no such published name"
        what = what if str(name).strip() else "names nothing"
        raise UserError(f"weights {shown(str(name))}: {what}; {_files_near(path, str(name)) or suggest(str(name))}")
    return path


def _files_near(path: Path, name: str) -> str | None:
    """What to say about a folder, or about a path beside which weights have a similar name; None for other names."""
    if os.path.isdir(path) and name.strip():
        files = _weights_in(path)
        models = [file for file in files if file.startswith("model")] or files  # beside a checkpoint's momentum
        if not models:
            return "it holds no weights."
        return f"give the file: {' or '.join(printable(path / file) for file in models[:3])}."
    if os.path.isdir(path.parent) and path.parent.name:
        near = difflib.get_close_matches(path.name, _weights_in(path.parent), n=1)
        return f"did you mean {printable(path.with_name(near[0]))}?" if near else None
    return None


def _weights_in(folder: Path) -> list[str]:
    """The names of the weights files directly in a folder."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(WEIGHT_SUFFIXES))
    except OSError:
        return []


def looks_like_weights(word: str) -> bool:
    """Whether a word of a command line is a published name, or ends as files of weights do."""
    return word in PUBLISHED or word.endswith(WEIGHT_SUFFIXES)


def suggest(name: str) -> str:
    """What to say about a name that is neither a file nor published: the nearest names, or all of them."""
    by_folded = {known.lower(): known for known in PUBLISHED}
    near = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.75)
    if near:
        return f"did you mean {by_folded[near[0]]}?"
    short = [known for known in PUBLISHED if known not in MMDETECTION]
    return f"published names are {', '.join(short)}, and mmdetection's (`faster-rcnn models` lists them)."
