import json
from pathlib import Path

import pytest
import torch

from detector.training.report import meter as meter_module
from detector.training.report.meter import Meter, progress_line, seconds_queued

NORM = torch.tensor(10.0)


def add(meter: Meter, value: float | None, seconds: float = 2.0) -> None:
    losses = {} if value is None else {"b": torch.tensor(value), "a": torch.tensor(1.0), "gradient_norm": NORM * value}
    meter.add(losses, images=8, seconds=seconds, waited=0.5)


def test_means_speed_and_time_left_by_hand() -> None:
    meter = Meter(torch.device("cpu"), iterations=100)
    add(meter, 1.0)
    add(meter, 4.0)
    add(meter, None)  # a step that was left out counts for the time and not for the losses
    values = meter.report(20, 0.01)
    assert values["losses"] == {"a": 1.0, "b": 2.5}
    assert values["loss"] == 3.5  # the gradient's norm is none of the losses
    assert values["gradient_norm"] == 25.0
    assert values["images_per_second"] == pytest.approx(24 / 6)
    assert values["data_wait"] == pytest.approx(1.5 / 6)
    assert values["seconds_left"] == pytest.approx(80 * 2)
    assert values["memory_bytes"] > 0
    line = progress_line(values, 100)
    assert "iteration 20/100  loss 3.5000 (a 1.0000 b 2.5000)  lr 0.01  4.0 images/s  data 25%" in line
    assert "  0:02:40 left" in line


def test_a_report_begins_anew_and_may_have_no_losses() -> None:
    meter = Meter(torch.device("cpu"), iterations=100)
    add(meter, 1.0)
    meter.report(1, 0.01)
    add(meter, None)
    values = meter.report(2, 0.01)
    assert values["loss"] is None
    assert values["gradient_norm"] is None
    assert values["losses"] == {}
    assert "loss - ()" in progress_line(values, 100)


def test_an_interruption_does_not_show_in_the_next_report() -> None:
    straight, before, after = (Meter(torch.device("cpu"), iterations=100) for _ in range(3))
    for value in (0.1, 0.7, None):
        add(straight, value)
        add(before, value)
    after.restore(json.loads(json.dumps(before.state())))
    for meter in (straight, after):
        add(meter, 1.3)
    measured = {"memory_bytes": 0, "queued": 0.0}
    assert after.report(4, 0.01) | measured == straight.report(4, 0.01) | measured


BUSY_END = "  (waited 50% for a processor: the machine is busy)"


@pytest.mark.parametrize(("queued", "end"), [(5.0, BUSY_END), (1.0, " left")])
def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch, queued: float, end: str) -> None:
    queue, clock = iter([100.0, 100.0 + queued]), iter([7.0, 17.0])
    monkeypatch.setattr(meter_module, "seconds_queued", lambda: next(queue))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    meter = Meter(torch.device("cpu"), iterations=100)
    add(meter, 1.0, seconds=10.0)
    values = meter.report(20, 0.01)
    assert values["queued"] == pytest.approx(queued / 10)
    assert progress_line(values, 100).endswith(end)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not say")
def test_time_in_the_queue_for_a_processor_only_grows() -> None:
    before = seconds_queued()
    assert 0 <= before <= seconds_queued()


def test_other_processes_go_on_from_the_mean() -> None:
    two = [{"sums": {"a": a}, "counted": 1, "steps": 1, "images": 8, "seconds": 1.0, "waited": 0.0} for a in (1.0, 2.0)]
    meter = Meter(torch.device("cpu"), iterations=100)
    meter.restore(two)
    meter.add({"a": torch.tensor(2.5), "gradient_norm": NORM}, 1, 1.0, 0.0)
    values = meter.report(1, 0.01)
    assert values["losses"] == {"a": 2.0}
    assert values["gradient_norm"] == 10.0  # those states, of an earlier version, had none


def test_adding_leaves_the_losses_alone() -> None:
    meter = Meter(torch.device("cpu"), iterations=100)
    loss = {"a": torch.tensor(1.0)}
    for _ in range(3):
        meter.add(loss, 1, 1.0, 0.0)
    assert loss["a"] == 1.0
