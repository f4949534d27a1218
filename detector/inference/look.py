"""One network looking at one view of some pictures: it proposes and scores regions in the frame of the originals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from detector.datasets.loading.batch import make_batch
from detector.inference.ensemble import Member
from detector.inference.views import View
from detector.structures import Features, ImageBatch, Size


@dataclass(frozen=True)
class Look:
    """What one network computes from one view of N pictures, all of one size.

    features: its maps. size: (height, width) of the view's input images; original: of the pictures.
    """

    member: Member
    view: View
    features: Features
    size: Size
    original: Size

    def propose(self) -> list[tuple[Tensor, Tensor]]:
        """The regions that this view proposes: for each picture, boxes [P, 4] in the original image, and logits [P]."""
        count = len(self.features[0].values)
        proposals = self.member.network.propose(self.features, [self.size] * count)
        return [(self.view.to_original(p.boxes, self.original, self.size), p.logits) for p in proposals]

    def seen(self, boxes: Sequence[Tensor]) -> list[Tensor]:
        """N tensors of boxes [*, 4] of the original images, moved to this view's input images."""
        return [self.view.to_view(b, self.original, self.size) for b in boxes]

    def score(self, boxes: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Score regions as `FasterRCNN.score` does, but in the frame of the original images, and in shared labels."""
        scores, refined = self.member.network.score(self.features, self.seen(boxes), [self.size] * len(boxes))
        pairs = [self.member.translate(s, b) for s, b in zip(scores, refined, strict=True)]
        return [s for s, _ in pairs], [self.view.to_original(b, self.original, self.size) for _, b in pairs]


def view_batch(member: Member, view: View, pictures: Sequence[np.ndarray]) -> ImageBatch:
    """One view of N pictures [H, W, 3] uint8 RGB of one size as a batch, on the network's device."""
    pixels = [view.pixels(picture, member.input) for picture in pictures]
    original: Size = pictures[0].shape[:2]
    count = len(pictures)
    batch = make_batch(pixels, [original] * count, list(range(count)), member.input.pad_to_multiple)
    return batch.to(member.network.device)


def look(member: Member, view: View, pictures: Sequence[np.ndarray]) -> Look:
    """Compute a network's features of one view of N pictures [H, W, 3] uint8 RGB of one size."""
    batch = view_batch(member, view, pictures)
    return Look(member, view, member.network.features(batch), batch.sizes[0], batch.original_sizes[0])
