"""Scoring detections: hotcoco beside pycocotools on a problem of val2017's size, each in a process of its own.

Run as a module with its arguments as JSON it is one of those processes.
"""

import json
import sys
import time
from statistics import median
from typing import Any, cast

import hotcoco
import torch

from benchmarking.measurements import Report
from benchmarking.peak_memory import can_measure, in_new_process, measure
from benchmarking.scoring_problem import BOXES, DETECTIONS_PER_IMAGE, IMAGES, make_problem
from benchmarking.timing import ratio
from benchmarking.what_to_measure import Settings
from detector.evaluation import coco_eval
from detector.evaluation.coco_eval import Evaluator

TABLE, RATIOS = "scoring", "scoring ratios"
PROGRAM = ["-m", "benchmarking.scoring_speed"]
ROUNDS = 3  # pycocotools takes most of a minute


def run(settings: Settings, report: Report) -> None:
    """The two take turns; every number of theirs must be the same."""
    scale = 0.02 if settings.quick else 1.0
    rounds = 1 if settings.device.type == "cuda" else min(settings.rounds, ROUNDS)  # a GPU is lent by the minute
    arguments = {"scale": scale, "can_measure": can_measure(torch.device("cpu"))}
    taken: dict[str, list[dict[str, Any]]] = {"pycocotools": [], "hotcoco": []}
    for _ in range(rounds):
        for evaluator, results in taken.items():
            results.append(in_new_process(PROGRAM, arguments | {"evaluator": evaluator}))
    report.note(
        f"scoring: {IMAGES * scale:.0f} images, 80 classes, {BOXES * scale:.0f} boxes, "
        f"{DETECTIONS_PER_IMAGE} detections an image"
    )
    slow, fast = taken["pycocotools"], taken["hotcoco"]
    if any(result["metrics"] != slow[0]["metrics"] for result in slow + fast):
        report.refuse("scoring", "pycocotools and hotcoco do not give the same numbers")
        return
    for evaluator, results in taken.items():
        row = {
            "evaluator": evaluator,
            "AP": results[0]["metrics"]["AP"],
            "evaluate + accumulate, s": median(result["evaluate"] for result in results),
            "whole call, s": median(result["whole"] for result in results),
            "MiB added": results[0].get("added"),
        }
        report.add(TABLE, row, {"rounds": results})
    for name, key in (("evaluate + accumulate", "evaluate"), ("whole call", "whole"), ("memory added", "added")):
        if key in slow[0]:
            row = {"of": name, "pycocotools : hotcoco": str(ratio([r[key] for r in slow], [r[key] for r in fast]))}
            report.add(RATIOS, row)


def score(evaluator: Evaluator, scale: float, can_measure_memory: bool) -> dict[str, Any]:
    """All numbers of one evaluator; seconds of evaluate and accumulate, and of the whole call; MiB that it adds."""
    truth, detections = make_problem(scale)
    stopwatch = Stopwatch()
    package: Any = coco_eval if evaluator == "pycocotools" else hotcoco
    original = package.COCOeval
    package.COCOeval = lambda *arguments: TimedEvaluation(original(*arguments), stopwatch)
    result: dict[str, Any] = {}

    def call() -> None:
        start = time.perf_counter()
        metrics = coco_eval.evaluate_coco(truth, detections, evaluator)
        result.update(whole=time.perf_counter() - start, metrics=metrics.to_dict())

    try:
        if can_measure_memory:
            result["added"] = measure(call, torch.device("cpu")).added
        else:
            call()
    finally:
        package.COCOeval = original
    return result | {"evaluate": stopwatch.seconds}


class Stopwatch:
    """Seconds so far."""

    def __init__(self) -> None:
        self.seconds = 0.0


class TimedEvaluation:
    """An evaluation of either package whose two laborious steps are timed."""

    def __init__(self, evaluation: Any, stopwatch: Stopwatch) -> None:
        self._evaluation = evaluation
        self._stopwatch = stopwatch

    def evaluate(self) -> None:
        """The package's step, timed."""
        self._time("evaluate")

    def accumulate(self) -> None:
        """The package's step, timed."""
        self._time("accumulate")

    def _time(self, name: str) -> None:
        start = time.perf_counter()
        getattr(self._evaluation, name)()
        self._stopwatch.seconds += time.perf_counter() - start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluation, name)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(score(cast(Evaluator, given["evaluator"]), given["scale"], given["can_measure"])))
