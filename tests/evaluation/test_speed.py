"""Time and memory of the two evaluators on a problem of the size of COCO val2017. Also runs as a script."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hotcoco
import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detector.categories import CategoryMap
from detector.evaluation import coco_eval
from detector.evaluation.ground_truth import GroundTruth

IMAGES, BOXES, DETECTIONS = 5_000, 36_000, 440_000


def val2017_sized() -> tuple[GroundTruth, list[dict[str, Any]]]:
    """Random annotations of 80 classes with falling frequency, and detections of which a third lie near a box."""
    generator = np.random.default_rng(0)
    categories = np.setdiff1d(np.arange(1, 91), [12, 26, 29, 30, 45, 66, 68, 69, 71, 83])
    frequency = 1 / np.arange(1, 81)
    frequency /= frequency.sum()

    def boxes(count: int) -> np.ndarray:
        extent = np.exp(generator.uniform(np.log(5), np.log(300), (count, 2)))
        return np.concatenate((generator.uniform(0, 400, (count, 2)), extent), axis=1)

    truth_boxes = boxes(BOXES)
    truth = GroundTruth(
        "synthetic",
        CategoryMap.from_coco([{"id": int(c), "name": str(c)} for c in categories]),
        np.arange(IMAGES),
        generator.integers(0, IMAGES, BOXES),
        generator.choice(categories, BOXES, p=frequency),
        truth_boxes,
        truth_boxes[:, 2] * truth_boxes[:, 3],
        generator.random(BOXES) < 0.0115,
    )
    near = generator.integers(0, BOXES, DETECTIONS)
    moved = truth_boxes[near] * generator.uniform(0.8, 1.25, (DETECTIONS, 4))
    detected = np.where(generator.random((DETECTIONS, 1)) < 0.35, moved, boxes(DETECTIONS))
    confused = generator.random(DETECTIONS) < 0.2
    category_of = np.where(confused, generator.choice(categories, DETECTIONS, p=frequency), truth.category_of[near])
    rows = zip(
        truth.image_of[near].tolist(),
        category_of.tolist(),
        detected.tolist(),
        generator.random(DETECTIONS).tolist(),
        strict=True,
    )
    return truth, [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]


def measure(evaluator: Any) -> dict[str, Any]:
    """Seconds of evaluate and accumulate alone, and of the whole call; MiB that the call adds at its peak."""
    truth, detections = val2017_sized()
    seconds = {"evaluate_accumulate": 0.0}

    def timed(cls: Any) -> Any:
        class Timed:
            def __init__(self, *arguments: Any) -> None:
                self.inner = cls(*arguments)

            def evaluate(self) -> None:
                start = time.perf_counter()
                self.inner.evaluate()
                self.inner.accumulate()
                seconds["evaluate_accumulate"] = time.perf_counter() - start

            def accumulate(self) -> None:
                """Done, and timed, by `evaluate`."""

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        return Timed

    coco_eval.COCOeval = timed(COCOeval)
    coco_eval.hotcoco = SimpleNamespace(COCO=hotcoco.COCO, COCOeval=timed(hotcoco.COCOeval))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    start = time.perf_counter()
    metrics = coco_eval.evaluate_coco(truth, detections, evaluator)
    seconds["whole_call"] = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": memory("VmHWM") - before, "metrics": metrics.to_dict()}


def memory(key: str) -> float:
    """MiB, from /proc/self/status."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith(key + ":"))) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory through /proc")
def test_hotcoco_gives_the_same_numbers_much_sooner() -> None:
    slow, fast = (
        json.loads(subprocess.run([sys.executable, __file__, name], check=True, capture_output=True).stdout)
        for name in ("pycocotools", "hotcoco")
    )
    assert fast["metrics"] == slow["metrics"]
    # About 100 to 200 times on an idle machine; half of that leaves room for a busy one.
    assert fast["seconds"]["evaluate_accumulate"] * 50 <= slow["seconds"]["evaluate_accumulate"]
    assert fast["peak_mib"] * 5 <= slow["peak_mib"]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
