"""The network and its peer before they are timed: the same answers, and a refusal where they are not."""

import copy
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from benchmarking import inference_speed, training_speed
from benchmarking.agreement import SAME_IOU, compare, refusal_exact
from benchmarking.forms import (
    EAGER,
    FAST,
    FAST_COMPILED,
    FORMS,
    READABLE,
    STRONGEST,
    CannotCompileError,
    Form,
    prepare,
    warm_up,
)
from benchmarking.measurements import Report
from benchmarking.peer import Pair, build_pair
from benchmarking.sample_pictures import load_picture, smaller, variants
from benchmarking.training_agreement import compare_training
from benchmarking.training_forms import prepare_step, random_targets
from benchmarking.what_to_measure import Settings
from torch import Tensor

from detector.structures import Target
from detector.weights.lineages.torchvision_resnet import IMAGENET_MEAN, IMAGENET_STD

CPU = torch.device("cpu")
SETTINGS = Settings(CPU, size=(96, 128), depths=(50,), proposals=(20,), rounds=1, forms=("eager",), rois=16)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path)


@pytest.fixture(autouse=True)
def no_peak_and_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds and is tested elsewhere."""
    monkeypatch.setattr("benchmarking.comparisons.measure_peak", lambda *_: 1e11)
    monkeypatch.setattr(inference_speed, "report_memory", lambda *_: None)
    monkeypatch.setattr(training_speed, "report_memory", lambda *_: None)


def spoilt(pair: Pair) -> Pair:
    """With one weight of ours changed a little."""
    model = copy.deepcopy(pair.model)
    with torch.no_grad():
        model.roi_head.cls_score.bias[1] += 0.05
    return replace(pair, model=model)


@pytest.mark.parametrize("form", [FAST, READABLE, FORMS["channels-last"]], ids=lambda form: form.name)
def test_every_float32_form_finds_the_same(pair: Pair, pixels: Tensor, form: Form) -> None:
    theirs = prepare(EAGER, pair, pixels, CPU)()
    found = prepare(form, pair, pixels, CPU)()
    assert len(theirs[0]) >= 5
    assert refusal_exact(compare(found, theirs, SAME_IOU)) is None


def test_ratios_are_printed(pair: Pair, pixels: Tensor, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_speed, "load_picture", lambda *_: None)
    monkeypatch.setattr(inference_speed, "variants", lambda *_: pixels)
    monkeypatch.setattr(inference_speed, "build_pair", lambda *_: pair)
    inference_speed.run(SETTINGS, report)
    assert report.refused == []
    text = report.write_markdown().read_text()
    assert "**inference ratios**" in text
    assert "| peer, eager | ours |" in text


def test_no_ratio_of_networks_that_find_other_things(
    pair: Pair, pixels: Tensor, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_speed, "load_picture", lambda *_: None)
    monkeypatch.setattr(inference_speed, "variants", lambda *_: pixels)
    monkeypatch.setattr(inference_speed, "build_pair", lambda *_: spoilt(pair))
    inference_speed.run(SETTINGS, report)
    assert len(report.refused) == 1
    assert "depth 50, proposals 20, batch 1" in report.refused[0]
    text = report.write_markdown().read_text()
    assert "**inference ratios**" not in text
    assert "| ours |" in text  # its own time, which no peer's detections change
    assert "| peer, eager |" not in text


def test_the_same_losses_and_gradient_from_the_same_samples(pair: Pair, pixels: Tensor) -> None:
    targets = random_targets((96, 128), 1, 10)
    found = compare_training(pair, pixels, targets, CPU)
    assert found.refusal is None
    assert found.loss < 1e-4
    assert all(loss > 0.01 for loss in found.peer.values())
    assert compare_training(spoilt(pair), pixels, targets, CPU).refusal is not None


def test_the_same_gradient_to_rounding_in_float64(pair: Pair, pixels: Tensor) -> None:
    targets = [Target(t.boxes.double(), t.labels) for t in random_targets((96, 128), 1, 10)]
    found = compare_training(in_float64(pair), pixels, targets, CPU)
    assert found.loss < 1e-6  # one of torchvision's is of float32 on its way
    assert found.gradient < 1e-12


@pytest.mark.slow
def test_torchvisions_own_model_over_a_pyramid_has_the_same_detections_losses_and_gradient(pixels: Tensor) -> None:
    large = variants(load_picture(None, (320, 416)), 1)
    pyramid = build_pair(smaller(large[0]), (320, 416), 50, 10, 100, 16, "fpn")
    found, theirs = prepare(FAST, pyramid, large, CPU)(), prepare(EAGER, pyramid, large, CPU)()
    assert len(theirs[0]) >= 5
    assert refusal_exact(compare(found, theirs, SAME_IOU)) is None

    pyramid = build_pair(pixels[0], (96, 128), 50, 10, 20, 16, "fpn")
    targets = [Target(t.boxes.double(), t.labels) for t in random_targets((96, 128), 1, 10)]
    training = compare_training(in_float64(pyramid), pixels, targets, CPU)
    assert training.loss < 1e-6
    assert training.gradient < 1e-12


def in_float64(pair: Pair) -> Pair:
    """A copy, its constants not rounded to float32 before."""
    doubled = Pair(copy.deepcopy(pair.peer).double(), copy.deepcopy(pair.model).double(), pair.config)
    for ours, theirs in ((doubled.model.normalize.mean, IMAGENET_MEAN), (doubled.model.normalize.std, IMAGENET_STD)):
        ours.copy_(torch.tensor(theirs, dtype=torch.float64).view(3, 1, 1))
    return doubled


@pytest.mark.parametrize("form", [EAGER, FAST], ids=lambda form: form.name)
def test_a_step_sees_as_many_regions_as_asked_for(pair: Pair, pixels: Tensor, form: Form) -> None:
    step = prepare_step(form, pair, pixels, random_targets((96, 128), 1, 10), CPU)
    losses = step.run()
    assert step.regions() == 16
    assert losses.keys() == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}


def test_training_is_not_timed_when_a_step_sees_fewer_regions(
    pair: Pair, pixels: Tensor, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_speed, "load_picture", lambda *_: None)
    monkeypatch.setattr(training_speed, "variants", lambda *_: pixels)
    monkeypatch.setattr(training_speed, "build_pair", lambda *_: pair)
    training_speed.run(replace(SETTINGS, rois=17, num_classes=10), report)
    assert len(report.refused) == 1
    assert "not 17 regions" in report.refused[0]


def test_a_compiler_that_fails_is_told_of_and_other_faults_are_not_hidden() -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def fail() -> None:
        raise BackendCompilerFailed(fail, RuntimeError("no compiler"), None)

    with pytest.raises(CannotCompileError, match="no compiler"):
        warm_up(STRONGEST, fail)
    with pytest.raises(BackendCompilerFailed):
        warm_up(EAGER, fail)


def test_ours_is_not_measured_as_compiled_when_it_is_not(
    pair: Pair, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda part, **_: part)
    assert len(prepare(FAST_COMPILED, pair, pixels, CPU)()) == 1
    monkeypatch.setattr(torch, "compile", Mock(return_value=Mock(side_effect=RuntimeError("no compiler"))))
    with pytest.raises(CannotCompileError, match="uncompiled"):
        warm_up(FAST_COMPILED, prepare(FAST_COMPILED, pair, pixels, CPU))
