"""Training steps on a device: the CPU's losses, gradients and weights, and few waits."""

import copy

import pytest
import torch
from device_cases import CPU, KINDS, NOTHING, TARGETS, Trainer, network, same_steps, training_batch
from pretended_gpu import GPU, PretendedGPU

from detector.structures import Target
from detector.training.ema import AveragedModel
from detector.training.nonfinite import RunningStatistics

# How often the host waits in a step, and more for every picture of it. A number here may only become smaller: the goal
# is 2 a step.
WAITS_OF_A_STEP, WAITS_OF_A_PICTURE = 6, 11


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        *((kind, TARGETS) for kind in KINDS),
        ("bottlenecks", [TARGETS[0], NOTHING]),
        ("bottlenecks", [NOTHING, NOTHING]),
        ("basic blocks", [NOTHING]),
    ],
)
def test_the_cpus_losses_gradients_and_weights(gpu: PretendedGPU, kind: str, targets: list[Target]) -> None:
    model, config = network(kind)
    batch = training_batch(targets)
    expected = Trainer(model, config, CPU).recorded_step(batch)
    compared = same_steps(Trainer(model, config, GPU).recorded_step(batch), expected)
    assert not compared.mismatches, compared.mismatches
    assert gpu.missing == {}


@pytest.mark.parametrize("kind", ["bottlenecks", "live batch norm"])
def test_bfloat16_trains_on_the_device_too(gpu: PretendedGPU, kind: str) -> None:
    model, config = network(kind)
    expected = Trainer(model, config, CPU).recorded_step(training_batch())
    found = Trainer(model, config, GPU, "bfloat16").recorded_step(training_batch())
    assert gpu.missing == {}
    assert gpu.dtypes["aten::convolution", torch.bfloat16] > gpu.dtypes["aten::convolution", torch.float32]
    for name, loss in expected.losses.items():
        assert found.losses[name].dtype == torch.float32
        assert found.losses[name].item() == pytest.approx(loss.item(), rel=0.2, abs=0.05)
    assert {gradient.dtype for gradient in found.gradients.values()} == {torch.float32}


def test_the_host_waits_no_more_often_than_it_did(gpu: PretendedGPU) -> None:
    model, config = network("bottlenecks")
    counts = []
    for pictures in (1, 2):
        trainer = Trainer(model, config, GPU)
        batch = training_batch(TARGETS[:pictures])
        trainer.step(batch)
        gpu.forget()
        trainer.step(batch)
        counts.append(len(gpu.waits))
    picture, step = counts[1] - counts[0], 2 * counts[0] - counts[1]
    expected = (WAITS_OF_A_STEP, WAITS_OF_A_PICTURE)
    assert (step, picture) == expected, f"more waits are not allowed, and fewer are to be written here\n{gpu.table()}"


def test_what_goes_with_every_step_does_not_wait(gpu: PretendedGPU) -> None:
    """The averaged weights, the statistics that a step that is left out needs back, and clearing gradients."""
    model, _ = network("live batch norm")
    model = copy.deepcopy(model).to(GPU).train()
    averaged, statistics = AveragedModel(model, 0.9), RunningStatistics(model)
    gpu.forget()
    statistics.remember()
    averaged.update(model)
    statistics.restore()
    model.zero_grad(set_to_none=True)
    assert gpu.waits == [], gpu.table()
    assert gpu.missing == {}
