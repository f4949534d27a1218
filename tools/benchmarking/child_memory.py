"""One form's peak memory; run as a module by `report_memory`, with its arguments as JSON."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarking.forms import FORMS, OURS, Form, prepare, runnable
from benchmarking.measurements import Report, Row
from benchmarking.peak_memory import Memory, can_measure, in_new_process, measure
from benchmarking.peer import build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.training_forms import prepare_step, random_targets
from benchmarking.what_to_measure import Settings


def report_memory(settings: Settings, report: Report, table: str, label: Row, forms: tuple[Form, ...]) -> None:
    """A row for every form, each measured in a process of its own; the first is what the others are compared with.

    Args:
        label: depth and, for inference, proposals; without these it is a training step.
    """
    if not can_measure(settings.device):
        report.note(f"{table}: the peak of a process is known on Linux alone")
        return
    first = None
    for form in runnable(forms, settings.device):
        arguments = label | {
            "form": form.name,
            "size": settings.size,
            "num_classes": settings.num_classes,
            "rois": settings.rois,
            "kind": settings.kind,
            "picture": None if settings.picture is None else str(settings.picture),
            "device": str(settings.device),
        }
        memory = in_new_process(["-m", "benchmarking.child_memory"], arguments)
        first = first or memory["added"]
        row: Row = {"form": form.name, "MiB when built": memory["built"], "MiB added": memory["added"]}
        report.add(table, label | row | {f"{forms[0].name} : this": first / memory["added"]})


def measure_form(arguments: dict[str, Any]) -> Memory:
    """Build, then measure two calls: the first may choose kernels or make the optimizer's state."""
    torch.set_num_threads(1)
    device = torch.device(arguments["device"])
    call = _build(arguments, device)

    def twice() -> None:
        call()
        call()

    return measure(twice, device)


def _build(arguments: dict[str, Any], device: torch.device) -> Callable[[], object]:
    """The form alone: what the other network takes is given back."""
    form = next(f for f in (*FORMS.values(), *OURS) if f.name == arguments["form"])
    size = (int(arguments["size"][0]), int(arguments["size"][1]))
    picture = arguments["picture"]
    num_classes, rois, proposals = arguments["num_classes"], arguments["rois"], arguments.get("proposals")
    pixels = variants(load_picture(None if picture is None else Path(picture), size), 1)
    numbers = (arguments["depth"], num_classes, proposals or 1000, rois)
    pair = build_pair(smaller(pixels[0]), size, *numbers, arguments["kind"])
    if proposals is None:
        return prepare_step(form, pair, pixels, random_targets(size, 1, num_classes), device).run
    return prepare(form, pair, pixels, device)


if __name__ == "__main__":
    print(json.dumps(vars(measure_form(json.loads(sys.argv[1])))))
