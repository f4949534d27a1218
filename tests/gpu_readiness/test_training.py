"""Training steps on a device: the CPU's losses, gradients and weights, and few waits."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from device_cases import CPU, KINDS, NOTHING, TARGETS, Trainer, network, same_steps, training_batch
from pretended_gpu import GPU, PretendedGPU

from detector.arithmetic import TrainingPrecision
from detector.structures import Target
from detector.training import engine
from detector.training.ema import AveragedModel
from detector.training.nonfinite import RunningStatistics
from detector.training.run.ahead import Ahead

# How often the host waits in a step, whatever its batch holds: to learn whether it may be taken. It may only become
# smaller.
WAITS_OF_A_STEP = 1
# How many kernels PyTorch is asked for in a step, by kind of network and number of pictures: where they are small, the
# host that asks is what a GPU waits for. They may only become smaller.
KERNELS_OF_A_STEP = {("bottlenecks", 1): 727, ("bottlenecks", 2): 736, ("FPN", 1): 813, ("FPN", 2): 824}


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


@pytest.mark.parametrize(
    ("kind", "precision", "dtype"),
    [
        ("bottlenecks", "bfloat16", torch.bfloat16),
        ("live batch norm", "bfloat16", torch.bfloat16),
        ("bottlenecks", "float16", torch.float16),
    ],
)
def test_half_precision_trains_on_the_device_too(
    gpu: PretendedGPU, kind: str, precision: TrainingPrecision, dtype: torch.dtype
) -> None:
    model, config = network(kind)
    expected = Trainer(model, config, CPU).recorded_step(training_batch())
    found = Trainer(model, config, GPU, precision).recorded_step(training_batch())
    assert gpu.missing == {}
    assert gpu.dtypes["aten::convolution", dtype] > gpu.dtypes["aten::convolution", torch.float32]
    for name, loss in expected.losses.items():
        assert found.losses[name].dtype == torch.float32
        assert found.losses[name].item() == pytest.approx(loss.item(), rel=0.2, abs=0.05)
    assert {gradient.dtype for gradient in found.gradients.values()} == {torch.float32}


@pytest.mark.parametrize("kind", ["bottlenecks", "RoIPool", "FPN"])
@pytest.mark.parametrize("targets", [TARGETS[:1], TARGETS, [NOTHING, NOTHING]])
def test_the_host_waits_once_a_step(gpu: PretendedGPU, kind: str, targets: list[Target]) -> None:
    model, config = network(kind)
    trainer = Trainer(model, config, GPU)
    batch = training_batch(targets)
    trainer.step(batch)
    gpu.forget()
    trainer.step(batch)
    assert len(gpu.waits) == WAITS_OF_A_STEP, gpu.table()


@pytest.mark.parametrize(("kind", "pictures"), KERNELS_OF_A_STEP)
def test_a_step_asks_for_few_kernels(gpu: PretendedGPU, kind: str, pictures: int) -> None:
    trainer, batch = Trainer(*network(kind), GPU), training_batch(TARGETS[:pictures])
    trainer.step(batch)
    gpu.forget()
    trainer.step(batch)
    assert gpu.kernels <= KERNELS_OF_A_STEP[kind, pictures]


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


def test_a_run_fetches_the_next_pictures_before_it_waits(
    gpu: PretendedGPU, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same losses, to the bit, as without; and a step of a run waits no more often than one by itself."""
    data = tiny_run.write_dataset(tmp_path / "data")
    changes = ["train.iterations=3", "train.accumulate=2", "data.val_annotations=null", "data.val_images=null"]
    config = tiny_run.tiny_config(data, *changes)
    done: list[str] = []
    waits: list[int] = []

    def noted(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: (done.append(what), real(*given, **named))[1]

    def counted(*given: Any) -> Any:
        gpu.forget()
        found = step(*given)
        waits.append(len(gpu.waits))
        return found

    step = engine.step
    for name in ("take_batch", "forward_backward", "clip_and_check"):
        monkeypatch.setattr(engine, name, noted(name, getattr(engine, name)))
    monkeypatch.setattr(engine, "step", counted)
    engine.train(config, tmp_path / "ahead", device="cuda")
    assert done == ["take_batch", *(["forward_backward", "take_batch", "clip_and_check"] * 3)[:-2], "clip_and_check"]
    assert waits == [WAITS_OF_A_STEP] * 3, gpu.table()
    done.clear()
    monkeypatch.setattr(Ahead, "fetch", lambda *_given: None)
    engine.train(config, tmp_path / "asked", device="cuda")
    assert done == ["take_batch", "forward_backward", "clip_and_check"] * 3
    assert tiny_run.losses(tmp_path / "ahead") == tiny_run.losses(tmp_path / "asked")
    tiny_run.assert_same_bits(*(tmp_path / name / "model_final.safetensors" for name in ("ahead", "asked")))
