"""What a run says about itself at its start, and about its steps."""

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import nn

from detector import process_group
from detector.datasets.dataset import DetectionDataset
from detector.training.report.meter import progress_line
from detector.training.run.parts import Run
from detector.training.schedule import describe_learning_rate
from detector.version import __version__

BAR_WIDTH = 30


def describe_run(run: Run) -> None:
    """Log the machine, the data with its class balance, what is trained and what is frozen, and the learning rate."""
    train = run.config.train
    processes = process_group.world_size()
    log = run.log.info
    log(
        f"detector {__version__}, torch {torch.__version__}, {describe_device(run.device)}, "
        f"{processes} process{'es' if processes > 1 else ''}, {describe_precision(run)}; "
        f"output {run.output}"
    )
    log(f"training data: {describe_data(run.train_data)}")
    if run.val_data is not None:
        log(f"validation data: {describe_data(run.val_data)}")
    log("parameters:\n" + describe_parameters(run.model))
    log(
        f"{train.iterations} iterations of {train.batch_size} images ({processes} × {train.accumulate} micro-batches); "
        f"{describe_learning_rate(train)}"
    )
    if run.progress.iteration:
        log(f"going on after iteration {run.progress.iteration}")


def describe_precision(run: Run) -> str:
    """How the run computes; of float16 the loss scale too, and that a CPU gains nothing from it."""
    if run.loss_scale is None:
        return run.precision
    slow = ", which a CPU computes more slowly than float32" if run.device.type == "cpu" else ""
    return f"{run.precision}{slow}, loss scale {run.loss_scale.value:,.0f}"


def report_steps(run: Run, values: dict[str, Any]) -> None:
    """One line on the screen, one in metrics.jsonl, and TensorBoard's curves."""
    if run.loss_scale is not None:
        values = values | {"loss_scale": run.loss_scale.value, "overflows": run.loss_scale.overflows}
    run.log.info(progress_line(values, run.config.train.iterations))
    run.log.metrics(values | {"skipped_steps": run.progress.skipped_steps})
    curves = {f"loss/{name}": value for name, value in values["losses"].items()}
    if values["loss"] is not None:
        curves["loss/total"] = values["loss"]
    if values["gradient_norm"] is not None:
        curves["gradient_norm"] = values["gradient_norm"]
    curves["learning_rate"] = values["learning_rate"]
    if run.loss_scale is not None:
        curves["loss_scale"] = run.loss_scale.value
    curves["memory/gigabytes"] = values["memory_bytes"] / 1e9
    curves["speed/images_per_second"] = values["images_per_second"]
    curves["speed/data_wait"] = values["data_wait"]
    run.log.scalars(values["iteration"], curves)


def describe_device(device: torch.device) -> str:
    """The device in words: `cuda (NVIDIA H100)`, `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def describe_parameters(model: nn.Module) -> str:
    """A table of the network's parts: parameters trained and frozen. Frozen norms have none, only constants."""
    trained: dict[str, int] = defaultdict(int)
    frozen: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        part = ".".join(name.split(".")[:2])
        (trained if parameter.requires_grad else frozen)[part] += parameter.numel()
    parts = list(dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in model.named_parameters()))
    rows = [f"  {part:<22} {_count(trained[part]):>10} trained {_count(frozen[part]):>10} frozen" for part in parts]
    total = f"  {'together':<22} {_count(sum(trained.values())):>10} trained {_count(sum(frozen.values())):>10} frozen"
    return "\n".join([*rows, total])


def describe_data(dataset: DetectionDataset) -> str:
    """How many pictures and boxes are trained on, what is left out, and how the classes are balanced."""
    counts = dataset.object_counts()
    text = f"{dataset.annotation_path}: {len(dataset):,} images, {int((counts == 0).sum()):,} of them without objects; "
    text += f"{int(counts.sum()):,} boxes"
    if dataset.iscrowd.any():
        text += f" and {int(dataset.iscrowd.sum()):,} crowds or difficult objects, which are not trained on"
    if dataset.dropped:
        text += f"; {dataset.dropped:,} boxes without area inside their picture are left out"
    labels = dataset.labels[~dataset.iscrowd]
    per_class = np.bincount(labels, minlength=len(dataset.categories) + 1)[1:]
    return f"{text}\n{describe_classes(dataset.categories.names, per_class.tolist())}"


def describe_classes(names: list[str], counts: list[int]) -> str:
    """A histogram of boxes per class, the scale a square root so that rare classes are seen."""
    largest = max(counts, default=0)
    width = max((len(name) for name in names), default=0)
    lines = []
    for name, count in zip(names, counts, strict=True):
        bar = "█" * round(BAR_WIDTH * (count / largest) ** 0.5) if largest else ""
        lines.append(f"  {name:<{width}} {count:>8} {bar}")
    return "\n".join(lines)


def _count(number: int) -> str:
    return f"{number:,}"
