import pytest
import torch
from benchmarking import floor
from benchmarking.floor import inference_work, measure_peak, training_work

from detector.weights.lineages.torchvision_detector import torchvision_detector_config

GMAC = 2e9


@pytest.mark.parametrize(
    ("depth", "rois", "written", "hoisted"),
    [(101, 1000, 981.7, 786.2), (101, 300, 414.7, 363.0), (50, 1000, 909.8, 714.2), (50, 300, 342.7, 291.0)],
)
def test_work_of_a_picture_of_800_by_1216(depth: int, rois: int, written: float, hoisted: float) -> None:
    """Against sums over the layers, made by hand."""
    work = inference_work(torchvision_detector_config(depth, 80), (800, 1216), rois)
    assert work.written / GMAC == pytest.approx(written, abs=0.06)
    assert work.hoisted / GMAC == pytest.approx(hoisted, abs=0.06)


def test_work_of_a_training_step() -> None:
    work = training_work(torchvision_detector_config(101, 80), (800, 1216), 512)
    assert work.written / GMAC == pytest.approx(1724.8, abs=0.06)
    assert work.hoisted / GMAC == pytest.approx(1439.0, abs=0.06)


def test_nothing_is_hoisted_out_of_basic_blocks() -> None:
    work = inference_work(torchvision_detector_config(18, 80), (128, 160), 10)
    assert work.written == work.hoisted > 0


def test_peak_is_the_best_of_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([3.0, 5.0, 4.0])
    monkeypatch.setattr(floor, "_rate", lambda *_: next(rates))
    monkeypatch.setattr(floor, "SMALL", 8)
    assert measure_peak(torch.float32, torch.device("cpu")) == 5.0
