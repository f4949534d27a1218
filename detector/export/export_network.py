"""The network in the form that is written into files: tensors in, tensors out, one graph for pictures of every size.

`FasterRCNN.forward` decides by the data how large its tensors are: how many boxes are usable, how many survive NMS. An
exporter runs a network once, on symbols, and would fix such a number, or what it implies, for all pictures to come. So
here proposals have a fixed number of *slots*: those that stay empty hold a box of no size, and what they score is never
looked at. Sizes that depend on the data appear only behind the last layer, where nothing else follows from them. The
layers themselves, anchors, box code and scores are those of `detector.model`.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from detector import boxes as box_ops
from detector.model.anchors import AnchorGrid
from detector.model.faster_rcnn import FasterRCNN
from detector.model.postprocess import DetectionSettings
from detector.model.proposals import ProposalSettings
from detector.model.roi_head import FullyConnectedHead, RoIHead
from detector.model.roi_pooling import RoIPooling, indexed_rois, roi_levels
from detector.structures import Features, Size

# What NMS ranks boxes by that are not usable, and the last of all, which are cut off again. OpenVINO's NMS leaves out
# boxes that score the lowest float32 or −∞, so these score more.
UNUSABLE, LAST = torch.finfo(torch.float32).min / 4, torch.finfo(torch.float32).min / 2


class ExportNetwork(nn.Module):
    """One picture to its detections, in the frame of the input image.

    Args:
        model: as `build_model` makes it, not fused; its parameters are copied.
        pad_to_multiple: what the padded picture's height and width are multiples of; the graph does the padding.
    """

    def __init__(self, model: FasterRCNN, pad_to_multiple: int = 1) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        head = self.model.roi_head
        assert isinstance(head, (RoIHead, FullyConnectedHead)), "a fused network is not exported"
        if head.pooling.level_rule is not None:
            head.add_module("pooling", PyramidPooling(head.pooling))
        self.pad_to_multiple = pad_to_multiple

    def forward(self, image: Tensor, score_threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect objects.

        Args:
            image: [1, 3, H, W] float32 RGB, 0 to 255, resized as the network wants it.
            score_threshold: [] float32; what scores more is a detection.

        Returns:
            boxes [D, 4] float32 xyxy, absolute pixels of the input image; scores [D], descending; labels [D] int64,
            1..K.
        """
        model, size = self.model, (image.shape[2], image.shape[3])
        pixels = (image - model.normalize.mean) / model.normalize.std
        if self.pad_to_multiple > 1:
            # Written as multiples: the sizes of all maps are then short formulas, which halves the time of tracing.
            padded = [(side + self.pad_to_multiple - 1) // self.pad_to_multiple * self.pad_to_multiple for side in size]
            bottom, right = (long - side for long, side in zip(padded, size, strict=True))
            pixels = F.pad(pixels, (0, right, 0, bottom))
        features = model.backbone(pixels)
        anchors = model.anchors(features)
        maps = [
            propose_in_slots(logits[0], deltas[0], grid, size, model.proposal_settings)
            for (logits, deltas), grid in zip(model.rpn(features), anchors, strict=True)
        ]
        boxes, filled = best_slots(maps, model.proposal_settings.post_nms_top_n)
        if len(anchors) == 1:
            # conv5_x takes as long for slots that stay empty, and a small picture has fewer anchors than there are
            # slots. The layers behind a pyramid are quick, and the number of its anchors is a long formula.
            (grid,) = anchors
            number = grid.rows * grid.columns * grid.base.shape[0]  # len(grid) would be that of the traced picture
            count = torch.sym_min(boxes.shape[0], number)
            boxes, filled = boxes[:count], filled[:count]
        (scores,), (refined,) = model.score(features, [boxes])
        return select(scores[:, 1:] * filled[:, None], refined, size, score_threshold, model.detection_settings)


def propose_in_slots(
    logits: Tensor, deltas: Tensor, anchors: AnchorGrid, size: Size, settings: ProposalSettings
) -> tuple[Tensor, Tensor]:
    """The proposals of one feature map: `select_proposals` in `post_nms_top_n` slots.

    Args:
        logits, deltas: [H'·W'·A] and [H'·W'·A, 4].
        size: of the input image without padding.

    Returns:
        boxes [P, 4], of no size in empty slots; what ranks them [P], descending, −∞ in empty slots.
    """
    count = torch.sym_min(settings.pre_nms_top_n, logits.shape[0])
    if settings.rank_by == "sigmoid":
        chosen = descending(logits.sigmoid())[:count]
        logits = logits[chosen]
    else:
        logits, chosen = logits.topk(count)
    boxes = box_ops.decode_deltas(anchors.at(chosen), deltas[chosen], settings.delta_weights, settings.limit_shrinking)
    boxes = box_ops.clip(boxes, size)
    usable = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    usable &= box_ops.is_larger_than(boxes, settings.min_size)
    boxes = boxes.where(usable[:, None], 0.0)
    ranks = settings.ranks(logits).where(usable, UNUSABLE)
    kept, filled = in_slots(survivors(boxes, ranks, settings.nms_threshold), settings.post_nms_top_n)
    filled &= usable[kept]
    return boxes[kept].where(filled[:, None], 0.0), ranks[kept].where(filled, -torch.inf)


def survivors(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The boxes that NMS keeps, their numbers in descending order of score.

    torchvision tells exporters that NMS keeps two boxes or more, and what was traced then refuses one and none. So two
    more take part, of no size, which overlap with nothing, and of the lowest score, so that they come out last.
    """
    more = boxes.new_zeros(2, 4)
    kept = nms(torch.cat((boxes, more)), torch.cat((scores, more[:, 0] + LAST)), threshold)
    return kept[:-2]


def in_slots(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` of any number of indices, zeros behind them if they are fewer; and which are not filled up."""
    slots = torch.cat((index, index.new_zeros(count)))[:count]
    filled = torch.cat((torch.ones_like(index), index.new_zeros(count)))[:count]
    return slots, filled > 0


def best_slots(maps: list[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """The proposals of all maps together: boxes [P, 4] of the best, and which slots are filled, [P] bool."""
    boxes, ranks = torch.cat([b for b, _ in maps]), torch.cat([r for _, r in maps])
    if len(maps) > 1:
        order = descending(ranks)[:count]
        boxes, ranks = boxes[order], ranks[order]
    return boxes, torch.isfinite(ranks)


def descending(values: Tensor) -> Tensor:
    """The numbers of [B] values from the largest to the smallest, equal ones in their order.

    ONNX has no sort that is called stable; its TopK is, and so is PyTorch's plain sort on a CPU.
    """
    return torch.sort(values, descending=True).indices


def select(
    scores: Tensor, boxes: Tensor, size: Size, score_threshold: Tensor, settings: DetectionSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """The detections among scored boxes, as `select_detections` finds them.

    Args:
        scores: [P, K], without the background; NaN selects nothing.
        boxes: [P, K, 4] xyxy, pixels of the input image.
        size: of the input image without padding.
        score_threshold: [] float32, in place of the settings'.

    Returns:
        boxes [D, 4], scores [D] and labels [D].
    """
    boxes = box_ops.clip(boxes, size)
    wanted = scores > score_threshold
    if settings.min_size > 0:
        wanted &= (boxes[..., 2:] - boxes[..., :2] >= settings.min_size).all(dim=2)
    rows, columns = torch.nonzero(wanted, as_tuple=True)
    selected, candidates = scores[rows, columns], boxes[rows, columns]
    apart = candidates + own_place(columns, scores.shape[1], size).repeat(1, 2).to(candidates.dtype)
    kept = survivors(apart, selected, settings.nms_threshold)[: settings.max_per_image]
    return candidates[kept], selected[kept], columns[kept] + 1


def own_place(columns: Tensor, classes: int, size: Size) -> Tensor:
    """Shifts (x, y), [C, 2], that set the boxes of each class apart, so that one NMS does for all.

    The places lie in a square around the origin: in a row of 80 pictures of 1333 px a float32 would be 0.008 px coarse,
    here it is an eighth of that.

    Args:
        columns: [C] int64, the classes, from 0.
    """
    side = next(n for n in range(1, classes + 1) if n * n >= classes)
    down = columns // side
    across = columns - down * side
    return torch.stack(((across - side // 2) * (size[1] + 1), (down - side // 2) * (size[0] + 1)), dim=1)


class PyramidPooling(nn.Module):
    """RoI pooling from a pyramid in which every level crops all RoIs, and of each RoI the right one is taken.

    To the other levels a RoI is a point, which costs next to nothing.

    Args:
        pooling: that of the network.
    """

    def __init__(self, pooling: RoIPooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Pool the RoIs of every image, as `RoIPooling.forward`."""
        assert self.pooling.level_rule is not None
        rois = indexed_rois(boxes)
        levels = roi_levels(rois, len(features) - 1, self.pooling.level_rule)
        pooled = self.pooling.crop(features[0], rois.where((levels == 0)[:, None], 0.0))
        for number, feature_map in enumerate(features[1:-1], start=1):
            own = levels == number
            part = self.pooling.crop(feature_map, rois.where(own[:, None], 0.0))
            pooled = part.where(own[:, None, None, None], pooled)
        return pooled
