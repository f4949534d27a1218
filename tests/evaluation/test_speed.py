"""Time and memory of the two evaluators on the benchmark's problem, which is of the size of COCO val2017."""

import pytest
import torch
from benchmarking.peak_memory import can_measure, in_new_process
from benchmarking.scoring_speed import PROGRAM


@pytest.mark.slow
@pytest.mark.skipif(not can_measure(torch.device("cpu")), reason="measures memory through /proc")
def test_hotcoco_gives_the_same_numbers_much_sooner() -> None:
    slow, fast = (
        in_new_process(PROGRAM, {"evaluator": name, "scale": 1.0, "can_measure": True})
        for name in ("pycocotools", "hotcoco")
    )
    assert fast["metrics"] == slow["metrics"]
    # About 100 to 200 times on an idle machine; half of that leaves room for a busy one.
    assert fast["evaluate"] * 50 <= slow["evaluate"]
    assert fast["added"] * 5 <= slow["added"]
