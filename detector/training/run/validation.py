"""Scoring a model while it trains: COCO metrics, the four losses on the val split, and which model is the best."""

import json
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from detector import process_group
from detector.arithmetic import TrainingPrecision, autocast, float32_products
from detector.datasets.dataset import DetectionDataset
from detector.datasets.loading.batch import TrainingBatch
from detector.datasets.loading.left_out import LeftOut
from detector.disk import write_atomically
from detector.errors import UserError
from detector.evaluation.coco_eval import METRICS, ClassMetrics, CocoMetrics, evaluate_coco
from detector.evaluation.ground_truth import GroundTruth
from detector.evaluation.incomplete import UNREADABLE
from detector.evaluation.results import read_results
from detector.inference.detect import detect_dataset, evaluation_mode, everywhere_left_out, gather_results
from detector.structures import ImageBatch
from detector.training.report.logs import RunLog
from detector.training.state.progress import Progress

T = TypeVar("T")
Covariant = TypeVar("Covariant", covariant=True)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation's results. Every process has the metrics; the main one the detections too, COCO results."""

    metrics: CocoMetrics
    detections: list[dict[str, Any]]
    validation_losses: dict[str, float]


def defined(value: float | None) -> float | None:
    """A metric as a fraction in [0, 1], or None where it is undefined: NaN, and pycocotools' −1."""
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def update_best(progress: Progress, iteration: int, ap: float) -> bool:
    """Record an evaluation's AP. Returns whether it is the best so far. NaN, and −1 for an undefined AP, never are."""
    progress.evaluated_iteration = iteration
    better = defined(ap) is not None and (progress.best_ap is None or ap > progress.best_ap)
    if better:
        progress.best_ap, progress.best_iteration = ap, iteration
        progress.evaluations_without_gain = 0
    else:
        progress.evaluations_without_gain += 1
    return better


def score(
    model: nn.Module,
    dataset: DetectionDataset,
    truth: GroundTruth | None,
    loader: Iterable[ImageBatch],
    device: torch.device,
    progress: bool,
    left_out: LeftOut | None = None,
) -> tuple[CocoMetrics, list[dict[str, Any]]]:
    """COCO metrics of a model, in every process, and its detections in the main one. All processes must call this.

    Args:
        truth: the dataset's; the main process alone needs it.
        loader: this process's share of the dataset.
        left_out: what of it could not be read, once the loader has been through.
        progress: show a bar with the remaining time.
    """
    local = detect_dataset(model, loader, device, dataset.categories, progress)
    detections = gather_results(local, dataset.image_ids)
    unreadable = everywhere_left_out(left_out)

    def evaluate() -> CocoMetrics:
        assert truth is not None
        return evaluate_coco(truth, detections, evaluator="hotcoco", unreadable=unreadable)

    return process_group.on_main(evaluate), detections


def validation_losses(
    joint: nn.Module, batches: Iterable[TrainingBatch], device: torch.device, precision: TrainingPrecision
) -> dict[str, float]:
    """The mean of each loss over all images, the network in evaluation mode. All processes must call this.

    Args:
        joint: `JointTraining`, not wrapped. Every module of it is left in the mode it was in.
        batches: this process's share, one image each.
    """
    mine: dict[str, list[float]] = {}
    with evaluation_mode(joint), torch.inference_mode(), float32_products(precision), autocast(precision, device):
        for batch in batches:
            targets = [target.to(device) for target in batch.targets]
            losses = joint(batch.images.to(device), targets, batch.seeds)
            # Together, so that a GPU is waited for once.
            for name, loss in zip(losses, torch.stack(list(losses.values())).tolist(), strict=True):
                mine.setdefault(name, []).append(loss)
    parts = process_group.gather(mine)
    # fsum rounds once, at the end: the mean is the same in whatever order, from however many processes, they come.
    names = sorted({name for part in parts for name in part})
    values = {name: [loss for part in parts for loss in part.get(name, ())] for name in names}
    return {name: math.fsum(losses) / len(losses) for name, losses in values.items()}


def write_evaluation(folder: Path, evaluation: Evaluation, iteration: int, log: RunLog) -> None:
    """Write `metrics.json` and `detections.json`; a failure is logged and the run goes on."""
    metrics = {"iteration": iteration} | evaluation.metrics.to_dict()
    if evaluation.validation_losses:
        metrics["validation_losses"] = evaluation.validation_losses
    try:
        write_atomically(folder / "metrics.json", json.dumps(metrics, indent=1, ensure_ascii=False).encode())
        write_atomically(folder / "detections.json", json.dumps(evaluation.detections).encode())
    except UserError as error:
        log.warning(str(error))


def read_evaluation(folder: Path, iteration: int) -> Evaluation | None:
    """What `write_evaluation` wrote, if it is of this iteration and whole."""
    try:
        stored = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if stored["iteration"] != iteration:
            return None
        losses = stored.pop("validation_losses", {})
        per_class = tuple(ClassMetrics(**one) for one in stored["per_class"])
        numbers = {name: stored[name] for name in METRICS}
        metrics = CocoMetrics(**numbers, per_class=per_class, unreadable=tuple(stored.get(UNREADABLE, ())))
        return Evaluation(metrics, read_results(folder / "detections.json"), losses)
    except (OSError, ValueError, KeyError, TypeError):  # UserError is a ValueError
        return None


class SizedBatches(Protocol[Covariant]):
    """What a loader offers: iteration over its batches, and how many there are."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Covariant]: ...


class Announced(Generic[T]):
    """Batches, with a call of `announce` before every one. Closing it ends the processes that prepare them."""

    def __init__(self, batches: SizedBatches[T], announce: Callable[[], None]) -> None:
        self._batches = batches
        self._announce = announce
        self._stream: Generator[T, None, None] | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[T]:
        self._stream = self._announced()
        return self._stream

    def _announced(self) -> Generator[T, None, None]:
        self._announce()
        for batch in self._batches:
            yield batch
            self._announce()

    def close(self) -> None:
        """End the iteration in progress, if any, and with it the processes that prepare its batches."""
        if self._stream is not None:
            self._stream.close()
