"""What TF32 and bfloat16 move: measured into the report, and within sane bounds."""

from collections.abc import Callable

import pytest
import torch
from comparison import Comparison
from device_cases import KINDS, Trainer, detect, network, training_batch
from tiny_models import random_batch

from detector.arithmetic import Precision, TrainingPrecision
from detector.structures import Selection

IMAGES = random_batch([(96, 128), (120, 100)])
# Half of the detections keep a partner: these weights are random, and rounding moves boxes that nothing holds.
PARTNERS, BEST_SCORE, LOSS = 0.5, 0.1, 0.25


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_detections(
    cuda: torch.device, kind: str, precision: Precision, record_testsuite_property: Callable[[str, object], None]
) -> None:
    model, _ = network(kind)
    exact, rounded = detect(model, IMAGES, cuda), detect(model, IMAGES, cuda, precision)
    share = sum(partners(a, b) for a, b in zip(rounded, exact, strict=True)) / sum(len(one) for one in exact)
    moved = max(abs(float(a.scores[0] - b.scores[0])) for a, b in zip(rounded, exact, strict=True))
    record_testsuite_property(f"{precision}, {kind}: share of detections with a partner", round(share, 4))
    record_testsuite_property(f"{precision}, {kind}: difference of the best score", moved)
    assert share >= PARTNERS
    assert moved <= BEST_SCORE


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_of_losses(
    cuda: torch.device, precision: TrainingPrecision, record_testsuite_property: Callable[[str, object], None]
) -> None:
    model, config = network("bottlenecks")
    exact = Trainer(model, config, cuda).recorded_step(training_batch())
    rounded = Trainer(model, config, cuda, precision).recorded_step(training_batch())
    compared = Comparison()
    for name, loss in exact.losses.items():
        compared.relative(name, rounded.losses[name].item(), loss.item(), LOSS)
    for name, difference in compared.largest.items():
        record_testsuite_property(f"{precision}: relative difference of {name}", difference)
    assert not compared.mismatches, compared.mismatches


def partners(ours: Selection, theirs: Selection) -> int:
    """How many of theirs have one of ours with the same label that overlaps by half or more."""
    from detector.boxes import pairwise_iou

    near = (pairwise_iou(theirs.boxes, ours.boxes) >= 0.5) & (theirs.labels[:, None] == ours.labels)
    return int(near.any(dim=1).sum())
