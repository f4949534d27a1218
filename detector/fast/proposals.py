"""From scored anchors to proposals, in a fixed number of slots. The twin of `detector.model.proposals` for a GPU.

How it works: unusable boxes are marked and stay in their tensors, since the host would wait to learn how many are left
without them. One NMS over all pictures and all their feature maps returns as many survivors as are wanted of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector import boxes as box_ops
from detector.fast.nms import survivors
from detector.model.anchors import AnchorGrid
from detector.model.proposals import ProposalSettings
from detector.model.rpn import AnchorScores
from detector.structures import Size, moved


@dataclass(frozen=True)
class MadeAnchors:
    """An `AnchorGrid` whose boxes have all been computed: [H'·W'·A, 4], in its order."""

    boxes: Tensor

    def at(self, index: Tensor) -> Tensor:
        """The anchors with the numbers `index`, [B] int64, as [B, 4]."""
        return self.boxes[index]


@dataclass(frozen=True)
class ProposalSlots:
    """P slots for the proposals of each of N pictures, the most promising first; empty slots come last.

    boxes: [N, P, 4] float32 xyxy, absolute pixels of the input image, clipped to it; zeros in empty slots.
    logits: [N, P], −∞ in empty slots. valid: [N, P] bool, whether the slot holds a proposal.
    """

    boxes: Tensor
    logits: Tensor
    valid: Tensor


def limits_of(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """[N, 1, 4] float32, the largest (x1, y1, x2, y2) of a box in images of these sizes; the host does not wait."""
    limits = torch.tensor([[[width, height, width, height]] for height, width in sizes], dtype=torch.float32)
    return moved(limits, device)


def ratios_of(from_sizes: Sequence[Size], to_sizes: Sequence[Size], device: torch.device) -> Tensor:
    """[N, 1, 4] float32, by which `boxes.rescale` multiplies boxes of N images to move them to other sizes."""
    rows = [[(w / v, h / u) * 2] for (u, v), (h, w) in zip(from_sizes, to_sizes, strict=True)]
    return moved(torch.tensor(rows, dtype=torch.float32), device)


def clip_to(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes [N, B, 4] clipped to their images, as `boxes.clip` does. limits: of `limits_of`."""
    return torch.minimum(boxes.clamp(min=0), limits)


def proposal_slots(
    scored: Sequence[AnchorScores],
    anchors: Sequence[AnchorGrid | MadeAnchors],
    limits: Tensor,
    settings: ProposalSettings,
) -> ProposalSlots:
    """The proposals of N pictures: those of `model.proposals.select_proposals`.

    Args:
        scored: of each feature map.
        anchors: of each feature map, which the scores are of.
        limits: of the input images without padding, from `limits_of`.
        settings: P is `post_nms_top_n`, or the number of anchors that are looked at, if that is less.
    """
    parts = [_of_one_map(s.logits, s.deltas, grid, settings) for s, grid in zip(scored, anchors, strict=True)]
    logits, deltas, starts = (torch.cat(kind, dim=1) for kind in zip(*parts, strict=True))
    boxes = box_ops.decode_deltas(
        starts.flatten(0, 1), deltas.flatten(0, 1), settings.delta_weights, settings.limit_shrinking
    )
    boxes = clip_to(boxes.view_as(starts), limits)
    usable = torch.isfinite(boxes).all(dim=2) & torch.isfinite(logits)
    usable &= box_ops.is_larger_than(boxes, settings.min_size)
    groups = None
    if len(parts) > 1:  # NMS within each map, a group; ranked together, the first survivors are the best of all maps
        numbers = [torch.full_like(part, number, dtype=torch.int64) for number, (part, _, _) in enumerate(parts)]
        order = settings.ranks(logits).where(usable, -torch.inf).argsort(dim=1, descending=True, stable=True)
        logits, usable, groups = (t.gather(1, order) for t in (logits, usable, torch.cat(numbers, dim=1)))
        boxes = take_rows(boxes, order)
    count = min(settings.post_nms_top_n, logits.shape[1])
    kept = survivors(boxes, usable, groups, settings.nms_threshold, count)
    valid, places = kept >= 0, kept.clamp(min=0)
    return ProposalSlots(
        take_rows(boxes, places).where(valid[..., None], 0.0), logits.gather(1, places).where(valid, -torch.inf), valid
    )


def take_rows(values: Tensor, places: Tensor) -> Tensor:
    """[N, B, C] at the places [N, S], as [N, S, C]."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[2]))


def _of_one_map(
    logits: Tensor, deltas: Tensor, anchors: AnchorGrid | MadeAnchors, settings: ProposalSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [N, B], deltas [N, B, 4] and anchors [N, B, 4] of the best of one feature map, the best first."""
    count = min(settings.pre_nms_top_n, logits.shape[1])
    if settings.rank_by == "sigmoid":
        # Row by row: which of many equal ones are the first depends on how torch sorts, as in `model.proposals`.
        stable = count == logits.shape[1]
        orders = [row.sort(descending=True, stable=stable).indices[:count] for row in logits.sigmoid()]
        chosen = torch.stack(orders)
        logits = logits.gather(1, chosen)
    else:
        logits, chosen = logits.topk(count, dim=1)
    return logits, take_rows(deltas, chosen), anchors.at(chosen.flatten()).view(*chosen.shape, 4)
