"""Training one small network, and its error as it trains."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.shrinkage import ShrinkageKind
from experiments.cifar_net import CifarNet, ShortcutKind
from experiments.crops import Crops, CropSets
from experiments.runs import Advance

# Of the ResNet paper, §4.2, but for the batch (128 there) and the number of steps (64,000).
BATCH, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 64, 0.1, 0.9, 1e-4
DIVIDED_AT = (0.5, 0.75)  # of the steps: the learning rate is divided by ten
WINDOW = 50  # steps whose mean error is a point of a curve
LAST = 100  # steps at the end whose mean error is the final one


@dataclass(frozen=True)
class NetSpec:
    """Which network is trained, and from which seed: it decides the first weights and the order of the pictures.

    depth, width, shortcut, shrinkage: as for `CifarNet`.
    """

    depth: int
    width: int
    shortcut: ShortcutKind
    seed: int
    shrinkage: ShrinkageKind | None = None

    @property
    def kind(self) -> str:
        """`plain` or `residual`."""
        return "plain" if self.shortcut == "none" else "residual"


@dataclass(frozen=True)
class Curve:
    """The error of one network while it was trained. All errors are shares in [0, 1] of wrongly classified pictures.

    training: of each `WINDOW` steps, on the batches as they came. final: of the last `LAST` steps. val: at the end, on
    the split val. seconds: of processor time.
    """

    spec: NetSpec
    training: list[float]
    final: float
    val: float
    seconds: float


def train_net(spec: NetSpec, advance: Advance, crops: CropSets, steps: int) -> Curve:
    """Train one network by stochastic gradient descent, without augmentation.

    Args:
        spec: the network.
        advance: is told how many more steps are done.
        crops: what it is trained on, and scored on at the end.
        steps: batches.
    """
    started = time.process_time()
    torch.manual_seed(spec.seed)
    net = CifarNet(spec.depth, spec.width, len(crops.names), spec.shortcut, spec.shrinkage)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(part * steps) for part in DIVIDED_AT])
    pixels, all_labels = inputs(crops.train, crops.train), torch.from_numpy(crops.train.labels)
    wrong = torch.zeros(steps)
    for step, chosen in enumerate(batches(len(all_labels), steps, spec.seed)):
        labels = all_labels[chosen]
        logits = net(pixels[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(logits, labels))
        optimizer.step()
        schedule.step()
        wrong[step] = (logits.argmax(dim=1) != labels).float().mean()
        if (step + 1) % WINDOW == 0 or step + 1 == steps:
            advance(step % WINDOW + 1)
    return Curve(
        spec=spec,
        training=[float(part.mean()) for part in torch.split(wrong, WINDOW)],
        final=float(wrong[-LAST:].mean()),
        val=error(net, inputs(crops.val, crops.train), torch.from_numpy(crops.val.labels)),
        seconds=time.process_time() - started,
    )


def batches(count: int, steps: int, seed: int) -> Iterator[Tensor]:
    """So many batches of numbers below `count`: every one once, in random order, and again."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < BATCH:
            order = torch.cat((order, torch.randperm(count, generator=generator)))
        yield order[:BATCH]
        order = order[BATCH:]


def inputs(crops: Crops, trained_on: Crops) -> Tensor:
    """Network input [M, 3, S, S] float32: mean 0 and deviation 1 of each channel over the crops that are trained on."""
    pixels = trained_on.pixels.astype(np.float64)
    mean, deviation = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    scaled = (crops.pixels - mean[:, None, None]) / deviation[:, None, None]
    return torch.from_numpy(scaled).float().contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def error(net: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """The share of pictures [M, 3, S, S] that a network classifies wrongly, in evaluation mode, in which it is left."""
    net.eval()
    chosen = torch.cat([net(part).argmax(dim=1) for part in torch.split(pixels, 512)])
    return float((chosen != labels).float().mean())
