"""Each way of running a network multiplies as its precision says, and leaves the process as it was."""

import pytest
import torch
from pretended_gpu import GPU, PretendedGPU
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor, nn

from detector.arithmetic import Precision, detection_precision
from detector.categories import CategoryMap
from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.inference.detect import detect_dataset
from detector.inference.predictor import Predictor
from detector.structures import ImageBatch, Target
from detector.training.run.validation import validation_losses
from detector.training.step import forward_backward

CATEGORIES = CategoryMap.from_coco([{"id": i, "name": f"class {i}"} for i in (1, 2, 3)])
IMAGES = random_batch([(96, 128)])
BATCH = TrainingBatch(0, IMAGES, [Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))], [1])
PRECISIONS: list[Precision] = ["float32", "tf32", "bfloat16"]
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def settings() -> tuple[bool, bool]:
    """Whether TF32 is allowed, in convolutions and in matrix products."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


class Probe(nn.Module):
    """Stands for a network, or for one with its losses; notes the settings of its forward and its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, images: ImageBatch, *_training: object) -> dict[str, Tensor]:
        assert images.pixels.device == GPU
        self.seen.append(settings())
        loss = (self.weight * 2).sum()
        if loss.requires_grad:
            loss.register_hook(lambda _gradient: self.seen.append(settings()))
        return {"loss": loss}


@every_precision
@pytest.mark.usefixtures("gpu")
def test_in_training_and_validation(precision: Precision) -> None:
    before = settings()
    probe = Probe().to(GPU)
    forward_backward(probe, [BATCH], GPU, precision)
    validation_losses(probe, [BATCH], GPU, precision)
    assert probe.seen == [(precision == "tf32",) * 2] * 3
    assert settings() == before


@every_precision
def test_in_detection_and_evaluation(gpu: PretendedGPU, precision: Precision) -> None:
    before = settings()
    seen: list[tuple[bool, bool]] = []
    config = tiny_config()
    predictor = Predictor(tiny_model(config).to(GPU), config, CATEGORIES, precision=precision)
    predictor.network.register_forward_pre_hook(lambda *_call: seen.append(settings()))
    gpu.forget()
    predictor.predict(IMAGES.pixels[0])
    convolutions = {dtype for name, dtype in gpu.dtypes if name == "aten::convolution"}
    assert (torch.bfloat16 in convolutions) == (precision == "bfloat16")
    detect_dataset(predictor.network, [IMAGES], GPU, CATEGORIES, progress=False, precision=precision)
    assert seen == [(precision == "tf32",) * 2] * 2
    assert settings() == before


@pytest.mark.parametrize(
    ("fast", "able", "expected"), [(True, True, "bfloat16"), (False, True, "float32"), (True, False, "float32")]
)
def test_left_to_choose_detection_takes_bfloat16_where_the_device_has_it(
    gpu: PretendedGPU, monkeypatch: pytest.MonkeyPatch, fast: bool, able: bool, expected: Precision
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able and not including_emulation)
    config = tiny_config()
    predictor = Predictor(tiny_model(config).to(GPU), config, CATEGORIES, fast=fast)
    assert predictor.precision == expected
    gpu.forget()
    predictor.predict(IMAGES.pixels[0])
    assert (("aten::convolution", torch.bfloat16) in gpu.dtypes) == (expected == "bfloat16")


def test_left_to_choose_detection_on_a_cpu_is_exact() -> None:
    config = tiny_config()
    assert Predictor(tiny_model(config), config, CATEGORIES).precision == "float32"
    assert detection_precision("bfloat16", torch.device("cpu")) == "bfloat16"


def test_tf32_is_refused_where_it_does_not_exist() -> None:
    config = tiny_config()
    with pytest.raises(UserError, match="tf32 exists only on CUDA devices, not on cpu; use float32 or bfloat16"):
        Predictor(tiny_model(config), config, CATEGORIES, precision="tf32")
