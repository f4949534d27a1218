"""The region proposal network that trains, fast. The twin of `detector.model.rpn`, on the same parameters.

How it works: a sampled anchor sees 3×3 cells. Taken out of the map these are small maps of their own, on which the same
layers give the same numbers; so the other anchors, of which the losses never hear, cost nothing backwards.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.winograd_gradient import conv2d
from detector.model import rpn
from detector.model.rpn import AnchorScores
from detector.structures import Features, moved


class RPNHead(nn.Module):
    """Objectness and deltas of all anchors, or of the sampled ones alone. head: whose parameters are trained."""

    def __init__(self, head: rpn.RPNHead) -> None:
        super().__init__()
        self.plain = head

    def forward(self, features: Features) -> list[AnchorScores]:
        """Score and refine every anchor of each feature map."""
        return [self.plain.predict(self._hidden(values)) for values, _ in features]

    def _hidden(self, values: Tensor) -> Tensor:
        for conv in self.plain.convs():
            values = F.relu_(conv2d(values, conv.weight, conv.bias, 1, 1))
        return values

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] of the anchors with the numbers in N tensors, map after map.

        Of several 3×3 convolutions a sampled anchor sees more cells than are worth taking out: all anchors are scored.
        """
        if len(self.plain.more_convs) > 0:
            return rpn.take_anchors(self(features), chosen)
        per_cell = self.plain.objectness.out_channels
        image = torch.cat([torch.full_like(index, i) for i, index in enumerate(chosen)])
        anchor = torch.cat(list(chosen))
        places = _window_places(features, image, anchor // per_cell)
        padded = [F.pad(m.values, (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(0, 2) for m in features]
        windows = F.embedding(places, padded[0] if len(padded) == 1 else torch.cat(padded)).flatten(1)
        # A window gives one cell, so this is a matrix product: backwards, as a convolution, it takes ten times as long.
        conv = self.plain.conv
        hidden = F.relu_(F.linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias))[:, :, None, None]
        logits, deltas = self.plain.predict(hidden)
        which = torch.arange(anchor.shape[0], device=anchor.device), anchor % per_cell
        return logits[which], deltas[which]


def _window_places(features: Features, image: Tensor, cell: Tensor) -> Tensor:
    """Where the 3×3 cells around some cells lie among those of all maps, each padded by a cell, one after the other.

    Args:
        features: maps of N images.
        image: [S] int64, of which image.
        cell: [S] int64, numbered row by row and map by map.

    Returns:
        [S, 9] int64, row by row.
    """
    rows, before, cells = [], 0, 0  # padded cells of the maps before, and cells of one image
    for values, _ in features:
        count, _, height, width = values.shape
        rows.append([before, (height + 2) * (width + 2), width + 2, cells])
        before, cells = before + count * (height + 2) * (width + 2), cells + height * width
    of_map: Sequence[int] | Sequence[Tensor] = rows[0]
    if len(rows) > 1:
        table = moved(torch.tensor(rows), cell.device)
        of_map = table[torch.bucketize(cell, table[:, 3].contiguous(), right=True) - 1].unbind(dim=1)
    start, size, line, first = of_map
    inside, columns = cell - first, line - 2
    corner = start + image * size + inside // columns * line + inside % columns  # of the window, in the padded map
    lines = torch.stack((corner, corner + line, corner + 2 * line), dim=1)
    return (lines[..., None] + torch.arange(3, device=cell.device)).flatten(1)
