"""The numbers of a report: where detections are wrong, how, and from which score on they are worth showing.

hotcoco matches detections with the ground truth, by COCO's rules, and counts; at IoU 0.5 where nothing else is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np

from detector.errors import UserError
from detector.evaluation.coco_eval import CocoMetrics, mean_defined
from detector.evaluation.ground_truth import GroundTruth
from detector.evaluation.hotcoco_eval import match_by_hotcoco
from detector.evaluation.report.thresholds import ENOUGH_BOXES, Operating, ScoreCurve, score_curve
from detector.evaluation.results import Results

# TIDE's kinds of error (Bolya et al. 2020, §2.1), by our names for hotcoco's.
KINDS = {"Loc": "localisation", "Cls": "class", "Both": "class and localisation", "Dupe": "duplicate"} | {
    "Bkg": "background",
    "Miss": "missed",
}
NO_CANDIDATES = 2.0  # a score above all: hotcoco's search for wrong annotations, which is not used, stays empty


@dataclass(frozen=True)
class ClassReport:
    """One category: COCO's AP in [0, 1] (−1: undefined), its curves, and the threshold of its best F1.

    boxes: of the ground truth, crowds left out. best: None where no detection is right; `enough` says whether there are
    boxes enough (`ENOUGH_BOXES`) to choose a threshold on. precision: [2, 101] at IoU 0.5 and 0.75 over recall 0 … 1,
    −1 where undefined. calibration_error: ECE; None without detections.
    """

    category_id: int
    name: str
    boxes: int
    detections: int
    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    best: Operating | None
    enough: bool
    curve: ScoreCurve
    precision: np.ndarray
    calibration_error: float | None


@dataclass(frozen=True)
class ErrorKind:
    """A kind of error: how often it occurs, how often from the report's threshold on, and the AP50 that it costs."""

    name: str
    count: int
    count_shown: int
    cost: float


@dataclass(frozen=True)
class Analysis:
    """Everything that a report shows but pictures.

    threshold: detections from this score on count in `confusion` and in the pictures: where boxes of any class match
    best, by F1 on this data; 0 where none matches. confusion: [K + 1, K + 1] whole numbers; a row is the class of the
    ground truth (last: none), a column that of the detection (last: missed). Of the D detections: `right`, those that
    match a box of their class, and `ignored`, those in crowds and beyond 100 in their image, [D] bool each; of the G
    annotations: `missed_at` [G] bool, no detection from the threshold on matches it.
    """

    metrics: CocoMetrics
    threshold: float
    classes: tuple[ClassReport, ...]
    curve: ScoreCurve
    precision: np.ndarray  # [3, 101]: at IoU 0.5, 0.75 and the mean over 0.5 … 0.95, mean over classes; −1 if undefined
    errors: tuple[ErrorKind, ...]
    confusion: np.ndarray
    calibration: Mapping[str, Any]
    right: np.ndarray
    ignored: np.ndarray
    missed_at: np.ndarray


def analyse(truth: GroundTruth, results: Results, metrics: CocoMetrics) -> Analysis:
    """Analyse the detections of a dataset.

    Args:
        truth: the annotations.
        results: the detections, of images of `truth`.
        metrics: of the same.

    Raises:
        UserError: a score is not in [0, 1], where thresholds and calibration have their meaning.
    """
    wrong = np.flatnonzero((results.scores < 0) | (results.scores > 1))
    if len(wrong):
        raise UserError(
            f"detections: entry {wrong[0]} has score {results.scores[wrong[0]]:g}, and a report is of scores from 0 to "
            "1; divide percentages by 100, put logits through a sigmoid (`evaluate` without --report takes any scores)."
        )
    matched = match_by_hotcoco(truth, results)
    matched.accumulate()
    precision = _precision(matched)
    status = matched.image_diagnostics(score_thr=NO_CANDIDATES)
    right, ignored = _flags(status, len(results))
    threshold = _threshold(truth, results, ignored)
    shown = (results.scores >= threshold) & ~ignored
    of_shown = match_by_hotcoco(truth, results.chosen(shown), every_overlap=False)
    calibration = matched.calibration()
    solid = ~truth.iscrowd
    return Analysis(
        metrics=metrics,
        threshold=threshold,
        classes=_classes(truth, results, metrics, precision, right, ignored, calibration["per_category"]),
        curve=score_curve(results.scores[~ignored], right[~ignored], int(solid.sum())),
        precision=_mean_curves(precision),
        errors=_errors(matched.tide_errors(), of_shown.tide_errors()),
        confusion=np.asarray(of_shown.confusion_matrix()["matrix"]).astype(np.int64),
        calibration=calibration,
        right=right,
        ignored=ignored,
        missed_at=solid & ~_matched_boxes(status, right & shown, len(truth.image_of)),
    )


def _flags(status: Mapping[str, Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """[D] bool each: which detections match, and which are of no account."""
    right, known = np.zeros(count, bool), np.zeros(count, bool)
    if status["dt_status"]:
        ids = np.fromiter(status["dt_status"].keys(), np.int64)
        known[ids - 1] = True
        right[ids - 1] = np.fromiter((value == "tp" for value in status["dt_status"].values()), bool)
    return right, ~known


def _matched_boxes(status: Mapping[str, Any], chosen: np.ndarray, count: int) -> np.ndarray:
    """[G] bool: whether one of the chosen detections, [D] bool, matches the annotation."""
    matched = np.zeros(count, bool)
    for detection, annotation in status["dt_match"].items():
        matched[annotation - 1] |= bool(chosen[detection - 1])
    return matched


def _threshold(truth: GroundTruth, results: Results, ignored: np.ndarray) -> float:
    """The score of best F1 where a box of any class is a match: confusion of classes is then still to be seen."""
    matched = match_by_hotcoco(truth, results, by_class=False, every_overlap=False)
    status = matched.image_diagnostics(score_thr=NO_CANDIDATES)
    right, beyond = _flags(status, len(results))
    counted = ~(ignored | beyond)
    best = score_curve(results.scores[counted], right[counted], int((~truth.iscrowd).sum())).best()
    return 0.0 if best is None else best.threshold


def _precision(matched: hotcoco.COCOeval) -> np.ndarray:
    """[10 overlaps, 101 recalls, K, 4 areas] with 100 detections an image; −1 where undefined."""
    accumulated = matched.eval
    assert accumulated is not None
    values: np.ndarray = np.asarray(accumulated["precision"])[..., -1]
    return values


def _classes(
    truth: GroundTruth,
    results: Results,
    metrics: CocoMetrics,
    precision: np.ndarray,
    right: np.ndarray,
    ignored: np.ndarray,
    calibration: Mapping[str, float],
) -> tuple[ClassReport, ...]:
    order = np.argsort(results.category_of, kind="stable")
    sorted_ids = results.category_of[order]
    reports = []
    shared_names = set(truth.categories.repeated_names())
    for k, of_class in enumerate(metrics.per_class):
        low = np.searchsorted(sorted_ids, of_class.category_id)
        high = np.searchsorted(sorted_ids, of_class.category_id, side="right")
        rows = order[low:high]
        rows = rows[~ignored[rows]]
        curve = score_curve(results.scores[rows], right[rows], of_class.ground_truth)
        mine = precision[:, :, k]
        reports.append(
            ClassReport(
                category_id=of_class.category_id,
                name=of_class.name,
                boxes=of_class.ground_truth,
                detections=of_class.detections,
                AP=of_class.AP,
                AP50=of_class.AP50,
                AP75=mean_defined(mine[5, :, 0]),
                APs=mean_defined(mine[:, :, 1]),
                APm=mean_defined(mine[:, :, 2]),
                APl=mean_defined(mine[:, :, 3]),
                best=curve.best(),
                enough=of_class.ground_truth >= ENOUGH_BOXES,
                curve=curve,
                precision=mine[(0, 5), :, 0],
                # hotcoco has them by name; where two categories share one, neither is known
                calibration_error=None if of_class.name in shared_names else calibration.get(of_class.name),
            )
        )
    return tuple(reports)


def _errors(every: Mapping[str, Any], shown: Mapping[str, Any]) -> tuple[ErrorKind, ...]:
    return tuple(
        ErrorKind(name, int(every["counts"][key]), int(shown["counts"][key]), float(every["delta_ap"][key]))
        for key, name in KINDS.items()
    )


def _mean_curves(precision: np.ndarray) -> np.ndarray:
    """[3, 101]: precision over recall at IoU 0.5, 0.75 and their mean from 0.5 to 0.95, mean over defined classes."""
    curves = np.full((3, precision.shape[1]), -1.0)
    defined = precision[0, 0, :, 0] > -1
    if defined.any():
        values = precision[:, :, defined, 0].mean(axis=2)
        curves[0], curves[1], curves[2] = values[0], values[5], values.mean(axis=0)
    return curves
