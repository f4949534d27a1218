"""The table of stages: each stage's time without what lies inside it, and every stage of both networks."""

import time
from pathlib import Path

import pytest
from benchmarking.measurements import Report
from benchmarking.peer import build_pair
from benchmarking.stages import STAGES, StageClock, run, watched_ours, watched_peer
from benchmarking.what_to_measure import Settings
from torch import Tensor, nn

from detector.device import choose_device


def test_a_stage_is_without_those_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 4.0, 8.0, 16.0])
    monkeypatch.setattr(time, "process_time", lambda: next(now))
    clock = StageClock()
    for stage in ("all", "part", None, "part", None, None):
        clock.enter(stage) if stage is not None else clock.leave()
    assert clock.seconds == {"all": 1 + 1 + 8, "part": 2 + 4}


def test_modules_and_methods_are_watched() -> None:
    clock, model = StageClock(), nn.Sequential(nn.ReLU(), nn.ReLU())
    clock.watch(model, "both")
    clock.watch(model[0], "first")
    clock.watch_method(model[1], "forward", "second")
    model(Tensor([1.0]))
    assert set(clock.seconds) == {"both", "first", "second"}


def test_every_stage_of_both_networks_is_watched(pixels: Tensor) -> None:
    height, width = pixels.shape[2:]
    pair = build_pair(pixels[0], (height, width), 18, 10, 20, 16, "fpn")
    for watched in (watched_ours, watched_peer):
        clock, call = watched(pair, pixels)
        call()
        assert set(clock.seconds) == set(STAGES)


def test_what_cannot_be_measured_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Settings(choose_device("cpu")), Report(tmp_path))
    assert "give --kind fpn" in capsys.readouterr().out
