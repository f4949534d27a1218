"""Check this installation: versions, devices, OpenCV's two distributions, and two operators on CPU and device."""

import argparse
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detector import command
from detector.errors import UserError
from detector.version import __version__

HEADLESS = "opencv-python-headless"
OPENCV = (HEADLESS, "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    HEADLESS,
    "pillow",
    "albumentations",
    "pycocotools",
    "hotcoco",
    "safetensors",
)

EXAMPLES = """examples:
  {program}                 the CPU, and the best device there is
  {program} --device cpu    the CPU alone

The exit code is 0 when all is well, and 2 with a sentence, and its remedy, for each fault and for each warning of what
works now and may break. Add the output to a report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    command.add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print versions and the outcome of every check; returns the exit code, 2 where one failed or warns."""
    print(f"{'Python':24}{platform.python_version()} on {platform.platform()}")
    print(f"{'faster-rcnn':24}{__version__} in {Path(__file__).parent.parent}")
    for package in PACKAGES:
        print(f"{package:24}{installed_version(package) or 'not installed'}")
    faults: list[str] = []
    warnings: list[str] = []
    checks: dict[str, Callable[[], str]] = {
        "OpenCV": lambda: check_opencv(warnings.append),
        "PyTorch": check_torch,
        "operators": lambda: check_operators(args.device),
    }
    for name, check in checks.items():
        try:
            print(f"{name:24}{check()}")
        except UserError as error:
            faults.append(str(error))
        except Exception as error:  # whatever a broken installation raises is what we are here to report
            faults.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")
    for kind, sentences in (("error", faults), ("warning", warnings)):
        for sentence in sentences:
            print(f"{kind}: {sentence}", file=sys.stderr)
    counts = [counted(len(some), word) for some, word in ((faults, "fault"), (warnings, "warning")) if some]
    print(" and ".join(counts) or "all is well")
    return command.EXIT_USER_ERROR if counts else 0


def counted(number: int, word: str) -> str:
    """So many of something, in words."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_opencv(warn: Callable[[str], None]) -> str:
    """That `cv2` works and is of one distribution; several of one version are a warning.

    All of OpenCV's distributions own the same folder `cv2`: whichever was unpacked last is imported, and uninstalling
    any breaks it. Ours is the headless one, which needs no screen libraries.
    """
    owners = {name: v for name in OPENCV if (v := installed_version(name))}
    others = [name for name in owners if name != HEADLESS]
    uninstall = f"pip uninstall -y {' '.join(others)} && " if others else ""
    remedy = f"{uninstall}pip install --force-reinstall --no-deps {HEADLESS}"
    try:
        import cv2
        import numpy as np

        imported = cv2.__version__
        works = cv2.resize(np.full((4, 4, 3), 7, np.uint8), (2, 2)).tolist() == [[[7] * 3] * 2] * 2
    except (ImportError, AttributeError) as error:
        raise UserError(f"OpenCV cannot be used ({error}); run `{remedy}`.") from None
    if not works:
        raise UserError(f"OpenCV {imported} resizes wrongly; run `{remedy}`.")
    listed = " and ".join(f"{name} {v}" for name, v in owners.items())
    if len(set(owners.values())) > 1:
        raise UserError(f"{listed} share the folder cv2, at different versions; run `{remedy}`.")
    if len(owners) > 1:
        warn(f"{listed} share the folder cv2: uninstalling one breaks both; run `{remedy}`.")
    return f"{imported} works"


def check_torch() -> str:
    """What torch was built for, and the devices that it finds."""
    import torch

    names = [f"cpu ({torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        names.append("mps")
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    return f"built for {built_for}; devices: {', '.join(names)}"


def check_operators(device_name: str) -> str:
    """Non-maximum suppression and RoIAlign on the CPU and on the device, against results known by hand."""
    import torch
    from torchvision.ops import nms, roi_align

    from detector.device import choose_device

    devices = {torch.device("cpu"), choose_device(device_name)}
    for device in sorted(devices, key=str):
        # The second box overlaps the first by 81 / 119 and scores less; the third stands apart.
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [50.0, 50.0, 60.0, 60.0]], device=device)
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5).tolist()
        # A map of 0 … 15, pooled to 2 × 2 with four samples a bin, each on a cell: the means of its quarters.
        features = torch.arange(16.0, device=device).reshape(1, 1, 4, 4)
        regions = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]], device=device)
        pooled = roi_align(features, regions, output_size=2, sampling_ratio=2, aligned=True).flatten().tolist()
        if kept != [0, 2] or pooled != [2.5, 4.5, 10.5, 12.5]:
            raise UserError(
                f"nms or roi_align on {device} gives {kept} and {pooled}; install torch and torchvision from one index."
            )
    return f"nms and roi_align are right on {', '.join(sorted(map(str, devices)))}"
