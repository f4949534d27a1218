from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from detector.arithmetic import TrainingPrecision
from detector.config import TrainConfig
from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.structures import ImageBatch, Target
from detector.training.process.watchdog import Watchdog
from detector.training.step import (
    choose_precision,
    clip_and_check,
    explain_out_of_memory,
    forward_backward,
    mean_losses,
    total,
)

CPU = torch.device("cpu")


class ToyJoint(nn.Module):
    """Stands in for JointTraining: two losses, means over the batch's images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2).double()

    def forward(self, images: ImageBatch, targets: list[Target], seeds: list[int]) -> dict[str, Tensor]:
        out = self.layer(images.pixels.double().mean(dim=(2, 3)))
        wanted = torch.stack([t.boxes.sum().double() for t in targets])
        return {"a": (out[:, 0] - wanted).pow(2).mean(), "b": (out[:, 1] - torch.tensor(seeds)).abs().mean()}


def make_batch(first: int, count: int, iteration: int = 0) -> TrainingBatch:
    pixels = torch.stack([torch.full((3, 4, 4), i / 3) for i in range(first, first + count)])
    ids = list(range(first, first + count))
    targets = [Target(torch.tensor([[0.0, 0.0, i, 1.0]]), torch.tensor([1])) for i in ids]
    return TrainingBatch(iteration, ImageBatch(pixels, [(4, 4)] * count, [(4, 4)] * count, ids), targets, ids)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_micro_batches_have_the_gradient_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    joint = ToyJoint()
    whole = forward_backward(joint, [make_batch(0, 6)], CPU, "float32")
    expected = gradients(joint)
    joint.zero_grad(set_to_none=True)
    parts = forward_backward(joint, [make_batch(0, 2), make_batch(2, 2), make_batch(4, 2)], CPU, "float32")
    assert len(parts) == 3
    for found, wanted in zip(gradients(joint), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    for name, loss in mean_losses(parts).items():
        torch.testing.assert_close(loss, whole[0][name], rtol=1e-10, atol=0)
    assert total({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}) == 3.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_or_a_gradient_that_is_not_finite_forbids_the_step(bad: float) -> None:
    model = nn.Linear(2, 2)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    fine = {"a": torch.tensor(1.0)}
    assert clip_and_check(fine, model, None)
    assert not clip_and_check({"a": torch.tensor(1.0), "b": torch.tensor(bad)}, model, None)
    model.bias.grad[1] = bad
    assert not clip_and_check(fine, model, None)
    assert not clip_and_check(fine, model, 1.0)


def test_clipping_by_hand() -> None:
    # Norm of (3, 4) is 5; clipped to 1 it is (0.6, 0.8). Below the limit nothing changes.
    model = nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    clip_and_check({"a": torch.tensor(0.0)}, model, 10.0)
    assert model.weight.grad.tolist() == [[3.0, 4.0]]
    clip_and_check({"a": torch.tensor(0.0)}, model, 1.0)
    assert model.weight.grad.tolist() == [pytest.approx([0.6, 0.8], rel=1e-5)]


def test_a_parameter_that_no_loss_reaches_is_our_own_error() -> None:
    model = nn.Linear(2, 2)
    model.weight.grad = torch.ones(2, 2)
    with pytest.raises(AssertionError, match="must reach every trained parameter"):
        clip_and_check({"a": torch.tensor(1.0)}, model, None)
    model.bias.requires_grad_(False)
    assert clip_and_check({"a": torch.tensor(1.0)}, model, None)


def fail(error: Exception) -> None:
    watchdog = Watchdog(lambda _text: None)
    with explain_out_of_memory(watchdog), watchdog.phase("the step of iteration 7", 1.0):
        raise error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_is_one_sentence_with_the_settings_to_lower(error: Exception) -> None:
    with pytest.raises(UserError, match=r"out of memory \(the step of iteration 7\): lower train\.batch_size"):
        fail(error)


def test_an_allocation_that_fails_on_the_cpu_is_out_of_memory_and_another_error_is_not() -> None:
    with pytest.raises(UserError, match="out of memory"), explain_out_of_memory(Watchdog(lambda _text: None)):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="something else"):
        fail(RuntimeError("something else"))


def test_precision() -> None:
    train = TrainConfig()
    assert choose_precision(train, CPU) == "float32"
    assert choose_precision(replace(train, precision="float32"), CPU) == "float32"
    assert choose_precision(replace(train, precision="float16"), CPU) == "float16"
    with pytest.raises(UserError, match="tf32 exists only on CUDA devices, not on cpu"):
        choose_precision(replace(train, precision="tf32"), CPU)


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_float32_on_a_processor_without_its_kernels_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, able: bool
) -> None:
    """PyTorch imitates the kernels: one step of a recipe for a CPU took over ten minutes in place of seconds."""
    monkeypatch.setattr("detector.training.step.has_kernels", lambda dtype: able and dtype == torch.bfloat16)
    assert choose_precision(TrainConfig(precision="bfloat16"), CPU) == ("bfloat16" if able else "float32")
    assert ("train.precision=bfloat16 is not used: this processor has no kernels for it" in caplog.text) == (not able)


@pytest.mark.parametrize(("able", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_auto_is_bfloat16_on_a_gpu_that_has_it_and_float16_on_an_older_one(
    monkeypatch: pytest.MonkeyPatch, able: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able and not including_emulation)
    gpu = torch.device("cuda")
    assert choose_precision(TrainConfig(), gpu) == expected
    assert choose_precision(TrainConfig(precision="tf32"), gpu) == "tf32"


def test_half_precision_computes_in_half_precision() -> None:
    seen: list[torch.dtype] = []

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, images: ImageBatch, _targets: list[Target], _seeds: list[int]) -> dict[str, Tensor]:
            out = self.layer(images.pixels.mean(dim=(2, 3)))
            seen.append(out.dtype)
            return {"a": out.float().sum()}

    precisions: list[TrainingPrecision] = ["bfloat16", "float32", "tf32", "float16"]
    for precision in precisions:
        forward_backward(Probe(), [make_batch(0, 2)], CPU, precision)
    assert seen == [torch.bfloat16, torch.float32, torch.float32, torch.float16]
