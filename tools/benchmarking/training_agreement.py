"""The same losses and the same gradient from both networks, given the same samples.

Each draws anchors and regions at random, so the peer is handed those that ours drew. Labels, box targets, losses and
gradients stay its own.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarking.forms import EAGER, FORMS, Form, convert_peer
from benchmarking.peer import ANCHOR_RATIOS, ANCHOR_SIZES, Pair, as_ours, as_peer_input
from benchmarking.sample_pictures import as_batch
from benchmarking.training_forms import as_dicts, our_loss_names
from detector.model.faster_rcnn import RPN, Head
from detector.model.rpn import AnchorScores
from detector.structures import Features, Target
from detector.training.joint import build_joint

# Relative: of a loss, and of the gradient's difference in the L2 norm. In float64 the gradients agree to 1e-12
# (tests/benchmarking/test_pair.py); in float32 a ReLU whose input is zero but for rounding passes the gradient or does
# not, which is some thousandths of the whole between any two executions.
SAME_LOSS, SAME_GRADIENT = 1e-4, 2e-2

Losses = dict[str, float]


@dataclass(frozen=True)
class TrainingAgreement:
    """ours, peer: the four losses. loss: the largest relative difference of one.

    gradient: how far the whole gradient is from the peer's, relative to that, in the L2 norm. own: the same of the
    peer's own in channels-last.
    """

    ours: Losses
    peer: Losses
    loss: float
    gradient: float
    own: float

    @property
    def refusal(self) -> str | None:
        """Why these are not the same, or None."""
        if self.loss <= SAME_LOSS and self.gradient <= SAME_GRADIENT:
            return None
        return (
            f"from the same samples the losses differ by {self.loss:.1e} and the gradients by {self.gradient:.1e} "
            f"({SAME_LOSS} and {SAME_GRADIENT} allowed)"
        )


def compare_training(pair: Pair, pixels: Tensor, targets: list[Target], device: torch.device) -> TrainingAgreement:
    """Our fast step against the peer's eager one, in the type of their weights; pixels: [N, 3, H, W] uint8."""
    model = copy.deepcopy(pair.model).to(device).train()
    joint = build_joint(model, pair.config.model, fast=True, in_slots=False)  # no empty slots among what is handed on
    samples = Samples(sizes=len(ANCHOR_SIZES) if pair.config.model.kind == "c4" else 1)
    joint.network.rpn = RecordingRPN(joint.network.rpn, samples)
    joint.network.roi_head = RecordingHead(joint.network.roi_head, samples)
    images = as_batch(pixels, pair.config.input.pad_to_multiple).to(device)
    ours = joint(images, [t.to(device) for t in targets], list(range(len(targets))))
    torch.stack(list(ours.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradient = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    theirs, expected = _run_peer(EAGER, pair, pixels, targets, samples, device)
    _, rounded = _run_peer(FORMS["channels-last"], pair, pixels, targets, samples, device)
    our_losses = {name: float(loss.detach()) for name, loss in ours.items()}
    return TrainingAgreement(
        our_losses,
        theirs,
        loss=max(abs(our_losses[name] - loss) / abs(loss) for name, loss in theirs.items()),
        gradient=_distance(gradient, expected),
        own=_distance({name: rounded[name] for name in gradient}, expected),
    )


def _distance(gradient: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    difference = sum(float((grad - expected[name]).double().square().sum()) for name, grad in gradient.items())
    norm = sum(float(grad.double().square().sum()) for grad in expected.values())
    return float((difference / norm) ** 0.5)


def _run_peer(
    form: Form, pair: Pair, pixels: Tensor, targets: list[Target], samples: "Samples", device: torch.device
) -> tuple[Losses, dict[str, Tensor]]:
    """Losses, and the gradient by our names."""
    peer: Any = convert_peer(form, pair.peer, device).train()
    peer.rpn.fg_bg_sampler = samples.of_anchors
    peer.roi_heads.add_gt_proposals = lambda _proposals, _boxes: list(samples.regions)
    dtype = next(peer.parameters()).dtype
    peer_losses = peer([as_peer_input(picture, dtype).to(device) for picture in pixels], as_dicts(targets, device))
    sum(peer_losses.values()).backward()
    losses = {name: float(loss) for name, loss in our_loss_names(peer_losses).items()}
    # Renaming and reordering weights is linear, so it turns a gradient into a gradient.
    whole = {name: torch.zeros_like(tensor) for name, tensor in peer.state_dict().items()}
    whole |= {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    return losses, as_ours(whole, pair.config)


class Samples:
    """What ours drew. anchors: N tensors of indices in our order; regions: N tensors [R, 4].

    sizes: of a cell's anchors.
    """

    def __init__(self, sizes: int) -> None:
        self.sizes = sizes
        self.anchors: list[Tensor] = []
        self.regions: list[Tensor] = []

    def of_anchors(self, labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Stand in for torchvision's sampler: masks of positive and negative anchors, in its order, by its labels."""
        masks = []
        for chosen, label in zip(self.anchors, labels, strict=True):
            mask = torch.zeros_like(label, dtype=torch.bool)
            mask[their_anchor(chosen, self.sizes)] = True
            masks.append(mask)
        return (
            [(mask & (label >= 1)).to(torch.uint8) for mask, label in zip(masks, labels, strict=True)],
            [(mask & (label == 0)).to(torch.uint8) for mask, label in zip(masks, labels, strict=True)],
        )


def their_anchor(index: Tensor, sizes: int) -> Tensor:
    """Convert our indices of anchors to torchvision's: sizes are ordered first in ours, ratios in theirs."""
    ratios = len(ANCHOR_RATIOS)
    cell, anchor = index // (sizes * ratios), index % (sizes * ratios)
    return cell * sizes * ratios + (anchor % ratios) * sizes + anchor // ratios


class RecordingRPN(nn.Module):
    """A region proposal network, noting which anchors it is asked for."""

    def __init__(self, rpn: RPN, samples: Samples) -> None:
        super().__init__()
        self.rpn = rpn
        self.samples = samples

    def forward(self, features: Features) -> list[AnchorScores]:
        """Score and refine every anchor, as `RPNHead.forward` does."""
        return self.rpn(features)

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score and refine the chosen anchors, as `RPNHead.at` does, and note them."""
        self.samples.anchors = list(chosen)
        return self.rpn.at(features, chosen)


class RecordingHead(nn.Module):
    """A region head, noting which regions it is asked for."""

    def __init__(self, head: Head, samples: Samples) -> None:
        super().__init__()
        self.head = head
        self.samples = samples

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score and refine the regions, as `RoIHead.forward` does, and note them."""
        self.samples.regions = list(boxes)
        return self.head(features, boxes)

    @property
    def has_context(self) -> bool:
        """As of the head."""
        return self.head.has_context

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see, as `RoIHead.vectors` has it."""
        return self.head.vectors(features, boxes)

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The sibling layers, as `RoIHead.predict` has them."""
        return self.head.predict(vectors)
