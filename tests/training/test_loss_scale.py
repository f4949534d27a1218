"""float16: steps whose gradients overflow are left out and lower the loss scale, which a resumed run goes on with."""

import json
import os
import signal
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import assert_same_bits, losses, tiny_config, write_dataset
from torch import Tensor, nn

from detector.datasets.loading.batch import TrainingBatch
from detector.structures import ImageBatch, Target
from detector.training import engine
from detector.training.engine import Outcome, train
from detector.training.loss_scale import GROWS_AFTER, LossScale, is_overflow, read_loss_scale, unscale_gradients
from detector.training.nonfinite import TrainingDivergedError
from detector.training.run import set_up
from detector.training.run.parts import Run
from detector.training.state.checkpoint import TrainingState, load_checkpoint
from detector.training.step import forward_backward

CPU = torch.device("cpu")
HALF = [
    "train.precision=float16",
    "model.backbone.norm=batch",
    "train.save_every=1",
    "train.keep_checkpoints=9",
    "train.iterations=5",
    "train.milestones=[]",
    "train.evaluate_every=0",
]


def test_the_scale_halves_with_an_overflow_and_doubles_after_many_steps() -> None:
    scale = LossScale()
    scale.count_overflow()
    assert scale == LossScale(2.0**15, 0, 1)
    for _ in range(GROWS_AFTER - 1):
        scale.count_step()
    assert scale == LossScale(2.0**15, GROWS_AFTER - 1, 1)
    scale.count_step()
    assert scale == LossScale(2.0**16, 0, 1)
    scale.count_step()
    for left in range(16, 0, -1):
        assert not scale.is_exhausted, left
        scale.count_overflow()
    assert scale == LossScale(1.0, 0, 17)
    assert not scale.is_exhausted
    scale.count_overflow()
    assert scale.is_exhausted


def test_the_scale_travels_as_plain_numbers() -> None:
    scale = LossScale(4.0, 7, 3)
    assert read_loss_scale(json.loads(json.dumps(asdict(scale)))) == scale
    assert read_loss_scale(None) is None
    for change in ({"value": float("nan")}, {"value": 0.5}, {"steps": -1}, {"overflows": -1}):
        with pytest.raises(ValueError, match="loss scale"):
            read_loss_scale(asdict(scale) | change)


def test_a_loss_that_was_infinite_before_it_was_scaled_is_no_overflow() -> None:
    fine, bad = {"a": torch.tensor(1.0)}, {"a": torch.tensor(float("inf"))}
    assert is_overflow([fine, fine])
    assert not is_overflow([fine, bad])


def test_scaling_and_unscaling_change_no_bit() -> None:
    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, images: ImageBatch, _targets: list[Target], _seeds: list[int]) -> dict[str, Tensor]:
            return {"a": self.layer(images.pixels.mean(dim=(2, 3))).pow(2).sum()}

    torch.manual_seed(0)
    joint = Joint()
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    batch = TrainingBatch(0, ImageBatch(torch.rand(2, 3, 4, 4), [(4, 4)] * 2, [(4, 4)] * 2, [1, 2]), [nothing] * 2, [0])
    found = []
    for scale in (LossScale(1.0), LossScale()):
        joint.zero_grad(set_to_none=True)
        (of_batch,) = forward_backward(joint, [batch], CPU, "float32", scale.value)
        unscale_gradients(joint, scale)
        found.append((of_batch["a"], joint.layer.weight.grad, joint.layer.bias.grad))
    assert all(one is not None and torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_dataset(tmp_path_factory.mktemp("data"))


def overflow_at(steps: range, monkeypatch: pytest.MonkeyPatch, stop: bool = False) -> None:
    """Let one gradient of some steps (from 1) be what float16 makes of a number that is too large.

    stop: have the run stop after such a step.
    """
    real = engine.step

    def stand_in(run: Run, *rest: Any) -> dict[str, Tensor]:
        if run.progress.iteration + 1 not in steps:
            return real(run, *rest)
        if stop:
            os.kill(os.getpid(), signal.SIGTERM)
        bias = run.model.rpn.conv.bias
        assert bias is not None
        planted = bias.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), float("inf")))
        try:
            return real(run, *rest)
        finally:
            planted.remove()

    monkeypatch.setattr(engine, "step", stand_in)


def checkpoint(output: Path, iteration: int) -> TrainingState:
    return load_checkpoint(output / f"checkpoints/iteration_{iteration:07d}")


def rows_of_steps(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "losses" in row]


def test_an_overflow_is_left_out_and_a_resumed_run_is_the_unbroken_one(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(data, *HALF, "train.ema_decay=0.9")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with monkeypatch.context() as patch:
        overflow_at(range(3, 4), patch)
        assert train(config, whole, device="cpu") == Outcome(5, 0)
    before, after, last = (checkpoint(whole, i) for i in (2, 3, 5))
    assert before.loss_scale == LossScale(2.0**16, 2, 0)
    assert after.loss_scale == LossScale(2.0**15, 0, 1)
    assert last.loss_scale == LossScale(2.0**15, 2, 1)
    assert (after.progress.skipped_steps, after.progress.skipped_in_a_row) == (1, 0)
    assert before.averaged is not None
    assert after.averaged is not None
    pairs = ((before.model, after.model), (before.averaged, after.averaged), (before.momentum, after.momentum))
    assert all(torch.equal(one[name], other[name]) for one, other in pairs for name in one)
    assert not torch.equal(after.model["rpn.conv.weight"], last.model["rpn.conv.weight"])

    printed = capsys.readouterr().out
    assert "float16, which a CPU computes more slowly than float32, loss scale 65,536" in printed
    assert "iteration 3 is left out, as a few are in float16" in printed
    assert "goes from 65,536 to 32,768" in printed
    assert not (whole / "nonfinite.jsonl").exists()
    steps = rows_of_steps(whole)
    assert [row["loss_scale"] for row in steps] == [2.0**16, 2.0**16, 2.0**15, 2.0**15, 2.0**15]
    assert [row["overflows"] for row in steps] == [0, 0, 1, 1, 1]
    assert [row["loss"] is None for row in steps] == [False, False, True, False, False]

    # Stopped after the very step that the scale remembers.
    with monkeypatch.context() as patch:
        overflow_at(range(3, 4), patch, stop=True)
        assert train(config, broken, device="cpu") == Outcome(3, signal.SIGTERM)
    assert train(config, broken, resume=True, device="cpu") == Outcome(5, 0)
    assert checkpoint(broken, 5).loss_scale == last.loss_scale
    for name in ("model_final.safetensors", "checkpoints/iteration_0000005/momentum.safetensors"):
        assert_same_bits(whole / name, broken / name)
    assert losses(whole) == losses(broken)


def test_float16_itself_overflows_under_too_large_a_scale_and_the_run_finds_one_that_fits(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_up, "LossScale", partial(LossScale, 2.0**19))
    words = [word for word in data if ".val_" not in word]
    train(tiny_config(words, *HALF, "train.iterations=6"), tmp_path, device="cpu")
    scale = checkpoint(tmp_path, 6).loss_scale
    assert scale is not None
    assert 0 < scale.overflows < 6
    assert scale.value == 2.0 ** (19 - scale.overflows)
    left_out = [row["loss"] is None for row in rows_of_steps(tmp_path)]
    assert left_out == sorted(left_out, reverse=True)


def test_gradients_that_overflow_at_every_scale_end_the_run_with_one_sentence(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_up, "LossScale", partial(LossScale, 4.0))
    overflow_at(range(2, 100), monkeypatch)
    words = [word for word in data if ".val_" not in word]
    with pytest.raises(TrainingDivergedError, match="overflow float16 however small the loss scale") as error:
        train(tiny_config(words, *HALF, "train.iterations=100"), tmp_path, device="cpu")
    assert "iteration 4: the gradients of rpn.conv.bias were not finite with images" in str(error.value)
    assert "set train.precision=float32" in str(error.value)
    (line,) = (tmp_path / "nonfinite.jsonl").read_text().splitlines()
    assert json.loads(line)["gradients"] == ["rpn.conv.bias"]
    assert checkpoint(tmp_path, 3).loss_scale == LossScale(1.0, 0, 2)


def test_losses_are_those_of_float32_which_has_no_scale(data: list[str], tmp_path: Path) -> None:
    words = [word for word in data if ".val_" not in word]
    found = {}
    for precision in ("float32", "float16"):
        config = tiny_config(words, *HALF, f"train.precision={precision}", "train.iterations=1")
        train(config, tmp_path / precision, device="cpu")
        found[precision] = losses(tmp_path / precision)[1]
    assert checkpoint(tmp_path / "float32", 1).loss_scale is None
    assert "loss_scale" not in rows_of_steps(tmp_path / "float32")[0]
    assert found["float16"] == pytest.approx(found["float32"], rel=0.02)
    assert found["float16"] != found["float32"]
