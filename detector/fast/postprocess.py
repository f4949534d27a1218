"""From class logits and deltas to detections, in a fixed number of slots. The twin of `detector.model.postprocess`.

How it works: the scores of all regions and classes of a picture are sorted. NMS goes through them from the best on,
each box against those of its own class, until it has as many detections as are wanted. The detections of a whole batch
come to the host as one tensor, for which alone it waits.
"""

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from detector.fast.nms import survivors
from detector.fast.proposals import clip_to, take_rows
from detector.model.postprocess import DetectionSettings
from detector.structures import Selection

# What a slot holds: x1, y1, x2, y2, score, label; all zero where it is empty.
COLUMNS = 6


def detection_slots(
    scores: Tensor,
    boxes: Tensor,
    valid: Tensor,
    limits: Tensor,
    settings: DetectionSettings,
    ratios: Tensor | None = None,
) -> Tensor:
    """The detections of N pictures: those of `model.postprocess.select_detections`.

    Args:
        scores: [N, P, K+1] float32, column 0 the background; NaN selects nothing.
        boxes: [N, P, K, 4] float32 xyxy, absolute pixels of the input image.
        valid: [N, P] bool, which of the P slots hold a region.
        limits: of the input images without padding, from `fast.proposals.limits_of`.
        settings: D is `max_per_image`, or the number of boxes that can exceed the score threshold, if that is less.
        ratios: from `fast.proposals.ratios_of`; times these, boxes are in the images in whose pixels overlaps are
            measured. None: these are the input images.

    Returns:
        [N, D, 6] float32: boxes in the frame of the input image, scores, labels; descending by score, empty slots last.
    """
    classes = boxes.shape[2]
    foreground = scores[..., 1:].where(valid[..., None], -torch.inf).flatten(1)
    ranked = foreground.where(foreground > settings.score_threshold, -torch.inf)
    ranked, order = ranked.sort(dim=1, descending=True, stable=True)
    most = min(order.shape[1], boxes.shape[1] * classes_above(settings.score_threshold, classes))
    ranked, order = ranked[:, :most], order[:, :most]
    candidates = clip_to(take_rows(boxes.flatten(1, 2), order), limits)
    usable = ranked > settings.score_threshold
    if settings.min_size > 0:
        usable &= (candidates[..., 2:] - candidates[..., :2] >= settings.min_size).all(dim=2)
    class_of = order % classes  # from 0; labels begin with 1
    compared = candidates if ratios is None else candidates * ratios
    kept = survivors(compared, usable, class_of, settings.nms_threshold, min(settings.max_per_image, most))
    rows = torch.cat((candidates, ranked[..., None], class_of[..., None] + 1), dim=2)
    return take_rows(rows, kept.clamp(min=0)).where((kept >= 0)[..., None], 0.0)


def classes_above(threshold: float, classes: int) -> int:
    """How many of K classes of one region can score above a threshold, since all its scores sum to 1 (to rounding)."""
    return classes if threshold <= 0 else min(classes, int(1.0 / threshold) + 1)


class SlotSelections(Sequence[Selection]):
    """The detections in slots, as N `Selection`s in the host's memory. The first look at one waits for the GPU.

    Args:
        slots: of `detection_slots`. Their copy to the host begins now, before any later work of the GPU.
    """

    def __init__(self, slots: Tensor) -> None:
        self._selections: list[Selection] | None = None
        self._arrived: torch.cuda.Event | None = None
        self._slots = slots
        if slots.device.type == "cuda":
            self._slots = torch.empty(slots.shape, dtype=slots.dtype).pin_memory()
            self._slots.copy_(slots, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def __len__(self) -> int:
        return self._slots.shape[0]

    @overload
    def __getitem__(self, index: int) -> Selection: ...

    @overload
    def __getitem__(self, index: slice) -> list[Selection]: ...

    def __getitem__(self, index: int | slice) -> Selection | list[Selection]:
        if self._selections is None:
            if self._arrived is not None:
                self._arrived.synchronize()
            self._selections = read_slots(self._slots)
        return self._selections[index]


def read_slots(slots: Tensor) -> list[Selection]:
    """The detections in slots that lie in the host's memory."""
    selections = []
    for rows in slots:
        filled = rows[: int((rows[:, 5] > 0).sum())]
        selections.append(Selection(filled[:, :4].clone(), filled[:, 4].clone(), filled[:, 5].long()))
    return selections
