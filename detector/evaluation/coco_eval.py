"""COCO mAP by pycocotools' definition, computed by pycocotools or, several times faster, by hotcoco.

The two agree to the last bit (tests/evaluation/test_coco_eval.py); pycocotools' are the numbers of record. Input that
they would crash on, or silently score wrongly, is refused or completed beforehand: see `ground_truth` and `results`.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.evaluation.ground_truth import GroundTruth, read_ground_truth
from detector.evaluation.hotcoco_eval import match_by_hotcoco
from detector.evaluation.incomplete import UNREADABLE
from detector.evaluation.results import Results, check_results

Evaluator = Literal["pycocotools", "hotcoco"]

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class ClassMetrics:
    """AP and AP50 of one category in [0, 1], −1 without ground truth; its boxes (crowds left out) and detections."""

    category_id: int
    name: str
    AP: float
    AP50: float
    ground_truth: int
    detections: int


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's twelve numbers, fractions in [0, 1]; −1 where there is no ground truth to define one.

    AP: mean over IoU 0.5, 0.55, … 0.95 and categories. s, m, l: boxes of area below 32², between, and above 96². ARk:
    recall with k detections an image (100 where no number is given). unreadable: what is wrong with each picture that
    no detector saw; its objects count as missed, so the numbers are not those of the whole set.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: tuple[ClassMetrics, ...]
    unreadable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The metrics as plain containers: the twelve by name, and `per_class`, a list.

        `unreadable_images`, a list of sentences, is there only where a picture could not be read.
        """
        numbers = asdict(self) | {"per_class": [asdict(one) for one in self.per_class]}
        del numbers["unreadable"]
        return numbers | ({UNREADABLE: list(self.unreadable)} if self.unreadable else {})


def evaluate_coco(
    ground_truth: str | Path | Mapping[str, Any] | GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    evaluator: Evaluator = "pycocotools",
    image_ids: Iterable[int] | None = None,
    source: str = "detections",
    unreadable: tuple[str, ...] = (),
) -> CocoMetrics:
    """Score detections against COCO annotations.

    Args:
        ground_truth: a COCO annotation file, its content, or what `read_ground_truth` made of either.
        detections: COCO results, boxes [x, y, width, height] in absolute pixels of the original image; without any
            the score is 0.
        evaluator: `pycocotools`, or `hotcoco` for the same numbers in a hundredth of the time.
        image_ids: score only these images; None for all.
        source: what to call the detections in messages.
        unreadable: what is wrong with each picture that no detector saw, for the metrics to say.

    Raises:
        UserError: unreadable or inconsistent input; the message names the entry.
    """
    truth = ground_truth if isinstance(ground_truth, GroundTruth) else read_ground_truth(ground_truth)
    results = check_results(detections, truth, source)
    if image_ids is not None:
        truth = truth.only(image_ids)
        results = results.only(truth.image_ids)
    run = _run_pycocotools if evaluator == "pycocotools" else _run_hotcoco
    stats, precision = run(truth, results)
    per_class = _per_class(precision, truth, results)
    return CocoMetrics(**dict(zip(METRICS, stats, strict=True)), per_class=per_class, unreadable=unreadable)


def _run_pycocotools(truth: GroundTruth, results: Results) -> tuple[list[float], np.ndarray]:
    """The twelve numbers, and precision [IoU, recall, category, area, detections an image]."""
    with contextlib.redirect_stdout(io.StringIO()):
        expected, detected = COCO(), COCO()
        expected.dataset = {
            "images": _images(truth),
            "categories": truth.categories.to_coco(),
            "annotations": _annotations(
                truth.image_of, truth.category_of, truth.boxes, area=truth.areas, iscrowd=truth.iscrowd
            ),
        }
        expected.createIndex()
        # Not loadRes, which fails on an empty list and would change the caller's entries.
        areas = results.boxes[:, 2] * results.boxes[:, 3]
        detected.dataset = {
            "images": expected.dataset["images"],
            "categories": expected.dataset["categories"],
            "annotations": _annotations(
                results.image_of, results.category_of, results.boxes, area=areas, score=results.scores
            ),
        }
        detected.createIndex()
        evaluation = COCOeval(expected, detected, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats], evaluation.eval["precision"]


def _run_hotcoco(truth: GroundTruth, results: Results) -> tuple[list[float], np.ndarray]:
    """The same numbers as `_run_pycocotools`, from hotcoco."""
    evaluation = match_by_hotcoco(truth, results)
    evaluation.accumulate()
    evaluation.summary_lines()  # fills `stats` without printing, which `summarize` does
    accumulated = evaluation.eval
    assert accumulated is not None
    return [float(value) for value in evaluation.stats], accumulated["precision"]


def _images(truth: GroundTruth) -> list[dict[str, Any]]:
    return [{"id": image_id} for image_id in truth.image_ids.tolist()]


def _annotations(image_of: np.ndarray, category_of: np.ndarray, boxes: np.ndarray, **more: np.ndarray) -> list[Any]:
    """Columns as the dicts that pycocotools wants, numbered from 1."""
    names = ("id", "image_id", "category_id", "bbox", "iscrowd", *more)
    count = len(image_of)
    columns = (
        range(1, count + 1),
        image_of.tolist(),
        category_of.tolist(),
        boxes.tolist(),
        [0] * count,
        *(values.tolist() for values in more.values()),
    )
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _per_class(precision: np.ndarray, truth: GroundTruth, results: Results) -> tuple[ClassMetrics, ...]:
    rows = []
    for k, category in enumerate(truth.categories.categories):
        of_class = precision[:, :, k, 0, -1]  # all areas, 100 detections
        rows.append(
            ClassMetrics(
                category.id,
                category.name,
                mean_defined(of_class),
                mean_defined(of_class[0]),
                int(np.count_nonzero((truth.category_of == category.id) & ~truth.iscrowd)),
                int(np.count_nonzero(results.category_of == category.id)),
            )
        )
    return tuple(rows)


def mean_defined(precision: np.ndarray) -> float:
    """The mean of the values that are defined; −1 marks those that are not, and is returned where none is."""
    defined = precision[precision > -1]
    return float(np.mean(defined)) if defined.size else -1.0
