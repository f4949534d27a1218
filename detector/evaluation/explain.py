"""Hints for a score that is suspiciously low: what usually lies behind an AP of 0."""

import numpy as np
import torch

from detector import boxes as box_ops
from detector.evaluation.coco_eval import CocoMetrics
from detector.evaluation.ground_truth import GroundTruth, xyxy
from detector.evaluation.results import Results

SUSPICIOUS_AP50 = 0.01
_ENOUGH = 0.3  # with this share of the objects covered, the boxes are probably in the right place


def explain_low_ap(metrics: CocoMetrics, truth: GroundTruth, results: Results) -> list[str]:
    """Lines that help to find out why AP50 is below `SUSPICIOUS_AP50`, or undefined; none for other scores."""
    if metrics.AP50 >= SUSPICIOUS_AP50:
        return []
    boxes = int(np.count_nonzero(~truth.iscrowd))
    lines = [
        f"ground truth: {boxes} boxes (and {len(truth.boxes) - boxes} crowds or difficult objects) in "
        f"{len(truth.image_ids)} images; detections: {len(results)} in {len(np.unique(results.image_of))} images."
    ]
    if boxes == 0:
        return [*lines, "without ground truth nothing can be scored: is this the right annotation file?"]
    if len(results) == 0:
        return [*lines, "there is nothing to score: is the score threshold too high, or the model untrained?"]
    of_any_class, of_its_class = recall_at_half(truth, results)
    lines.append(
        f"boxes covered by a detection with IoU ≥ 0.5: {of_any_class:.1%} by one of any class, "
        f"{of_its_class:.1%} by one of their own."
    )
    if of_any_class < _ENOUGH:
        lines.append(
            "few boxes are where the objects are: is the model trained long enough, are the detections in pixels of "
            "the original images, as [x, y, width, height], and do image ids belong to the same pictures?"
        )
    elif of_its_class < _ENOUGH * of_any_class:
        lines.append("the places are right and the classes wrong: do category ids mean the same in both?")
    else:
        lines.append("places and classes are right, so the scores must rank them badly: many false ones score higher.")
    return lines


def recall_at_half(truth: GroundTruth, results: Results) -> tuple[float, float]:
    """Share of the boxes (crowds left out) that a detection of any class, and of their own, covers with IoU ≥ 0.5."""
    covered_by_any, covered_by_own = 0, 0
    solid = np.flatnonzero(~truth.iscrowd)
    boxes, detected = (torch.from_numpy(xyxy(one.boxes)) for one in (truth, results))
    truth_rows, result_rows = _rows_by_image(truth.image_of[solid]), _rows_by_image(results.image_of)
    for image_id, positions in truth_rows.items():
        if image_id not in result_rows:
            continue
        expected, rows = solid[positions], result_rows[image_id]
        good = box_ops.pairwise_iou(boxes[expected], detected[rows]).numpy() >= 0.5
        same = truth.category_of[expected][:, None] == results.category_of[rows][None, :]
        covered_by_any += int(good.any(axis=1).sum())
        covered_by_own += int((good & same).any(axis=1).sum())
    return covered_by_any / max(len(solid), 1), covered_by_own / max(len(solid), 1)


def _rows_by_image(image_of: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(image_of, kind="stable")
    ids, starts = np.unique(image_of[order], return_index=True)
    return dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True))
