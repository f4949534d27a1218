"""Small sets of annotations and detections whose errors are known."""

from typing import Any

from detector.evaluation.coco_eval import evaluate_coco
from detector.evaluation.ground_truth import GroundTruth, read_ground_truth
from detector.evaluation.report.analyse import Analysis, analyse
from detector.evaluation.results import Results, check_results

NAMES = {2: "cat", 5: "dog", 9: "bird"}


def box(number: int, width: float = 20, height: float = 20, across: float = 0) -> list[float]:
    """A box far from all others, [x, y, width, height]; `across` moves it sideways."""
    return [40.0 * (number % 10) + across, 40.0 * (number // 10), width, height]


def content(annotations: list[dict[str, Any]], images: int = 1, names: dict[int, str] | None = None) -> dict[str, Any]:
    """COCO annotations of pictures 1, 2, … of 400 × 400 pixels."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 400, "height": 400} for i in range(1, images + 1)],
        "categories": [{"id": i, "name": name} for i, name in (names or NAMES).items()],
        "annotations": [{"id": i} | one for i, one in enumerate(annotations, start=1)],
    }


def object_(number: int, category_id: int = 2, image_id: int = 1, **more: Any) -> dict[str, Any]:
    """An annotation at the place of that number."""
    return {"image_id": image_id, "category_id": category_id, "bbox": box(number), "area": 400, "iscrowd": 0} | more


def detection(bbox: list[float], score: float = 0.9, category_id: int = 2, image_id: int = 1) -> dict[str, Any]:
    """A COCO result."""
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def perfect(annotations: list[dict[str, Any]], score: float = 0.9) -> list[dict[str, Any]]:
    """A detection exactly on each annotation."""
    return [detection(one["bbox"], score, one["category_id"], one["image_id"]) for one in annotations]


def analysed(truth: dict[str, Any], detections: list[dict[str, Any]]) -> tuple[GroundTruth, Results, Analysis]:
    """The annotations, the detections and their analysis."""
    annotated = read_ground_truth(truth)
    results = check_results(detections, annotated)
    return annotated, results, analyse(annotated, results, evaluate_coco(annotated, detections, "hotcoco"))
