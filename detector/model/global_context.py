"""Global context: each region is judged with the whole picture in view (ResNet paper, appendix B).

The paper pools the whole picture's box as one more region, puts it through the layers that every region goes through,
and joins the result to each region's own before the two sibling layers. A linear layer of two joined vectors is the sum
of two linear layers, so the context's part has weights of its own here: those of a network without context load as they
are, and its part starts at zero, which changes nothing.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from detector.structures import Features, Size

# A head's `vectors` without context: features and N tensors of boxes [P_i, 4] to vectors [R, C'].
Vectors = Callable[[Features, Sequence[Tensor]], Tensor]


class ContextLayers(nn.Module):
    """What the sibling layers make of the context: a part of every class logit and of every delta.

    Args:
        channels: C'.
        num_classes: K.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, num_classes + 1, bias=False)
        self.bbox_pred = nn.Linear(channels, num_classes * 4, bias=False)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.weight)


def join_context(vectors: Vectors, features: Features, boxes: Sequence[Tensor], sizes: Sequence[Size]) -> Tensor:
    """The vectors of regions, each followed by that of its whole picture: [R, 2·C'].

    Args:
        vectors: of the head without context.
        features: of N images.
        boxes: N tensors [P_i, 4] xyxy, absolute pixels of the input image.
        sizes: of the N input images without padding: what the whole picture is.
    """
    wholes = [b.new_tensor([[0.0, 0.0, width, height]]) for b, (height, width) in zip(boxes, sizes, strict=True)]
    of_regions_and_wholes = vectors(features, [torch.cat(pair) for pair in zip(boxes, wholes, strict=True)])
    parts = torch.split(of_regions_and_wholes, [b.shape[0] + 1 for b in boxes])
    return torch.cat([torch.cat((part[:-1], part[-1:].expand(len(part) - 1, -1)), dim=1) for part in parts])
