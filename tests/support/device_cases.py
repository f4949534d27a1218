"""Networks, pictures and training steps that are run on two devices, to be the same on both."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from comparison import Comparison, Rows
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor

from detector.arithmetic import Precision, TrainingPrecision, computing_type, float32_products
from detector.config import Config, TrainConfig
from detector.datasets.loading.batch import TrainingBatch
from detector.fast.fuse import fuse
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import ImageBatch, Selection, Target
from detector.training.joint import build_joint
from detector.training.optimizer import build_optimizer, set_learning_rate
from detector.training.step import clip_and_check, forward_backward, mean_losses

CPU = torch.device("cpu")

# Every choice that leads to other operators.
KINDS: dict[str, dict[str, Any]] = {
    "basic blocks": {"backbone": {"depth": 18}},
    "bottlenecks": {"backbone": {"depth": 50}},
    "torchvision's": {
        "backbone": {"depth": 50, "stride_in_1x1": False},
        "roi": {"aligned": False, "sampling_ratio": 2},
        "detection": {"min_size": 0.01},
    },
    "RoIPool": {"backbone": {"depth": 50}, "roi": {"pooling": "pool"}},
    "live batch norm": {"backbone": {"depth": 50, "norm": "batch", "freeze_stages": 0}},
    "group norm": {"backbone": {"depth": 18, "norm": "group", "freeze_stages": 0}},
    "FPN": {"kind": "fpn", "roi": {"pooled_size": 7}},
    "group norm in conv5_x": {"backbone": {"depth": 50, "conv5_norm": "group"}, "rpn": {"smooth_l1_beta": 0.1}},
}
SIZES = [(96, 128), (80, 100)]
TARGETS = [
    Target(torch.tensor([[10.0, 10, 60, 50], [70, 40, 120, 90]]), torch.tensor([2, 3])),
    Target(torch.tensor([[20.0, 20, 90, 75]]), torch.tensor([1])),
]
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
# Float rounding in other kernels, between networks of unit scale.
BOX, SCORE, LOSS, GRADIENT = 2e-2, 1e-4, 1e-4, 1e-2


@cache
def network(kind: str) -> tuple[FasterRCNN, Config]:
    """A small network of random weights on the CPU, in evaluation mode; it is not to be changed."""
    config = tiny_config(**KINDS[kind])
    return tiny_model(config), config


def detect(
    model: FasterRCNN, images: ImageBatch, device: torch.device, precision: Precision = "float32", fast: bool = True
) -> list[Selection]:
    """What a copy of the model on this device selects, in the frame of the input images, on the CPU."""
    moved = copy.deepcopy(model).to(device)
    network = fuse(moved, computing_type(precision)) if fast else moved
    with torch.inference_mode(), float32_products(precision):
        return [selection.to(CPU) for selection in network(images.to(device))]


class HasBoxes(Protocol):
    """Boxes with scores and labels, of one picture, in whatever frame."""

    @property
    def boxes(self) -> Tensor: ...

    @property
    def scores(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


def same_detections(ours: Sequence[HasBoxes], theirs: Sequence[HasBoxes]) -> Comparison:
    """One partner for each, picture by picture."""
    compared = Comparison()
    compared.equal("pictures", len(ours), len(theirs))
    for a, b in zip(ours, theirs, strict=True):
        compared.same_rows(
            "detections", Rows(a.boxes, a.scores, a.labels), Rows(b.boxes, b.scores, b.labels), BOX, SCORE
        )
    return compared


@dataclass(frozen=True)
class Step:
    """What one training step computed: losses, gradients and, after the optimizer's turn, weights; on the CPU."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]


class Trainer:
    """A copy of a model on a device, that takes the steps of a training run on batches of these pictures."""

    def __init__(
        self, model: FasterRCNN, config: Config, device: torch.device, precision: TrainingPrecision = "float32"
    ) -> None:
        self.device, self.precision = device, precision
        self.model = copy.deepcopy(model).to(device).train()
        self.joint = build_joint(self.model, config.model)
        self.optimizer = build_optimizer(self.model, TrainConfig())
        set_learning_rate(self.optimizer, 1e-3)

    def step(self, batch: TrainingBatch, max_norm: float | None = 10.0) -> dict[str, Tensor]:
        """Losses, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = mean_losses(forward_backward(self.joint, [batch], self.device, self.precision))
        assert clip_and_check(losses, self.model, max_norm)
        self.optimizer.step()
        return losses

    def recorded_step(self, batch: TrainingBatch) -> Step:
        """The same with all that it left, on the CPU."""
        losses = self.step(batch, max_norm=None)
        gradients = {n: p.grad.to(CPU) for n, p in self.model.named_parameters() if p.grad is not None}
        weights = {n: value.detach().to(CPU) for n, value in self.model.state_dict().items()}
        return Step({name: loss.to(CPU) for name, loss in losses.items()}, gradients, weights)


def training_batch(targets: Sequence[Target] = TARGETS, seed: int = 3) -> TrainingBatch:
    """As many pictures as targets."""
    sizes = [SIZES[i % len(SIZES)] for i in range(len(targets))]
    return TrainingBatch(0, random_batch(sizes), list(targets), [seed + i for i in range(len(targets))])


def same_steps(ours: Step, theirs: Step) -> Comparison:
    """Losses by their ratio, gradients by the norm of their difference, weights element by element."""
    compared = Comparison()
    compared.equal("losses", sorted(ours.losses), sorted(theirs.losses))
    for name, loss in theirs.losses.items():
        compared.relative(name, ours.losses[name].item(), loss.item(), LOSS)
    compared.equal("parameters with a gradient", sorted(ours.gradients), sorted(theirs.gradients))
    whole = torch.stack([gradient.norm() for gradient in theirs.gradients.values()]).norm()
    for name, gradient in theirs.gradients.items():
        difference = (ours.gradients[name] - gradient).norm() / whole
        compared.relative("gradients, of the whole gradient's norm", 1 + difference.item(), 1.0, GRADIENT)
    for name, weight in theirs.weights.items():
        compared.close("weights", ours.weights[name], weight, 1e-3 * max(1.0, float(weight.abs().max())))
    return compared
