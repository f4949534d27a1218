"""Detecting by looking at a picture several times: mirrored, at several sizes, with several networks.

Everything rests on two stages of the network: `propose` gives regions, and `score` takes any regions, wherever they
come from. There are four forms, named by `model.detection.augment.form`:

    average      The best of the regions that all views propose are moved to the original image and scored in every
                 view; scores and boxes are averaged, and merged once. The ensembles of the ResNet paper (appendix B) do
                 so with all regions: `max_proposals=0`.
    maxout       The same appendix's multi-scale testing. Regions are proposed at the usual test size; each is pooled
                 at two adjacent sizes, and the larger of the two activations counts (`adjacent_sizes.py` says where).
                 Views that are mirrored differently are averaged.
    union        Each view detects by itself, and all detections are merged by `model.detection.merge`: with weighted
                 fusion as Solovyev et al. 2021 do.
    detectron2   The same by NMS, with the habits of detectron2 (`detectron2_views.py`).

Several networks are several times as many views. `views.py` moves pictures and boxes, `look.py` is one network at one
view.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from detector import boxes as box_ops
from detector.config import AugmentForm, DetectionConfig, InputConfig, ViewsConfig
from detector.errors import UserError, shown
from detector.inference.adjacent_sizes import score_by_maxout
from detector.inference.detectron2_views import detect_as_detectron2
from detector.inference.ensemble import Member
from detector.inference.look import Look, look
from detector.inference.views import views_of
from detector.model.postprocess import DetectionSettings, merge_boxes, select_detections
from detector.model.proposals import first_survivors
from detector.model.refinement import refine
from detector.structures import ImageBatch, Selection, Size

Scored = tuple[list[Tensor], list[Tensor]]  # N of class scores [P_i, K+1], N of boxes [P_i, K, 4]
ONE_VIEW = ViewsConfig(form="average", horizontal_flip=False)
Augment = bool | AugmentForm | ViewsConfig | None
FORMS: tuple[AugmentForm, ...] = get_args(AugmentForm)


class AugmentedDetector(nn.Module):
    """Detects in original pictures by looking at each of them several times.

    Args:
        members: the networks; the first one's settings say which detections are kept.
        settings: which views, and what becomes of what they show.

    Raises:
        UserError: the form detectron2 with several networks.
    """

    def __init__(self, members: Sequence[Member], settings: ViewsConfig) -> None:
        super().__init__()
        if settings.form == "detectron2" and len(members) > 1:
            raise UserError("the form detectron2 is of a single model; take the form union for several.")
        self.members = list(members)
        self.networks = nn.ModuleList([member.network for member in members])  # for their modes
        self.settings = settings
        self.detection_settings = members[0].network.detection_settings

    @property
    def looks_per_picture(self) -> int:
        """How often a picture goes through a network."""
        return sum(len(views_of(self.settings, member.input)) for member in self.members)

    def forward(self, images: ImageBatch) -> list[Selection]:
        """Detect in N pictures of one size.

        Args:
            images: the original pictures, uint8, neither resized nor padded.

        Returns:
            N `Selection`s, in the frame of the original images.
        """
        pictures = [np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()) for pixels in images.pixels]
        if self.settings.form == "detectron2":
            return [detect_as_detectron2(self.members[0], picture, self.settings) for picture in pictures]
        planned = [(member, view) for member in self.members for view in views_of(self.settings, member.input)]
        if self.settings.form != "union":
            looks = [look(member, view, pictures) for member, view in planned]
            return self._detect(looks, self._proposers(looks, pictures), self.detection_settings)
        each = replace(self.detection_settings, merge="nms", voting_threshold=None)
        detected = []
        for member, view in planned:  # one look at a time: a look holds feature maps
            alone = [look(member, view, pictures)]
            detected.append(self._detect(alone, alone, each))
        return [self._merged(selections) for selections in zip(*detected, strict=True)]

    def _merged(self, selections: Sequence[Selection]) -> Selection:
        """One picture's detections of all views as one selection."""
        boxes = torch.cat([one.boxes for one in selections])
        scores = torch.cat([one.scores for one in selections])
        labels = torch.cat([one.labels for one in selections])
        return merge_boxes(boxes, scores, labels, self.detection_settings, sources=len(selections))

    def _detect(self, looks: Sequence[Look], proposers: Sequence[Look], settings: DetectionSettings) -> list[Selection]:
        """Score the regions that `proposers` propose in all `looks`, and select: N selections of the originals."""
        boxes = self._proposals(proposers)
        sizes = [looks[0].original] * len(boxes)
        score = partial(score_in_looks, looks, self.settings)
        scores, refined = score(boxes)
        if settings.refine_passes:
            scores, refined = refine(score, scores, refined, sizes, settings.refine_passes, settings.refine_keeps_all)
        return [select_detections(s, b, size, settings) for s, b, size in zip(scores, refined, sizes, strict=True)]

    def _proposers(self, looks: list[Look], pictures: list[np.ndarray]) -> list[Look]:
        """The looks whose regions count: all, but of the form maxout those at the usual test size."""
        if self.settings.form != "maxout":
            return looks
        proposers = []
        for member in self.members:
            own = [one for one in looks if one.member is member]
            for view in views_of(replace(self.settings, form="average", scales=(), sizes=()), member.input):
                size = view.size(own[0].original, member.input)
                mirrored = (view.horizontal, view.vertical)
                same = (o for o in own if o.size == size and (o.view.horizontal, o.view.vertical) == mirrored)
                proposers.append(next(same, None) or look(member, view, pictures))
        return proposers

    def _proposals(self, proposers: Sequence[Look]) -> list[Tensor]:
        """The regions of each picture, [P, 4] of the original image, clipped to it."""
        proposed = zip(*(one.propose() for one in proposers), strict=True)
        return [self._thinned(parts, proposers[0].original) for parts in proposed]

    def _thinned(self, parts: Sequence[tuple[Tensor, Tensor]], original: Size) -> Tensor:
        """The regions of one picture that several views propose: the best after NMS, at most `max_proposals`.

        Views propose nearly the same regions, so scoring all of them costs several times as much and gains little.
        """
        boxes = box_ops.clip(torch.cat([b for b, _ in parts]), original)
        if self.settings.max_proposals == 0 or len(parts) == 1:
            return boxes
        proposing = self.members[0].network.proposal_settings
        limit = self.settings.max_proposals or proposing.post_nms_top_n  # not set: as many as one view may propose
        logits, order = torch.cat([logit for _, logit in parts]).sort(descending=True, stable=True)
        boxes = boxes[order]
        return boxes[first_survivors(boxes, logits, proposing.nms_threshold, limit)]


class Detecting(NamedTuple):
    """A network that detects, and how pictures are prepared for it."""

    network: nn.Module
    input: InputConfig


def choose_detecting(members: Sequence[Member], settings: DetectionConfig, augment: Augment) -> Detecting:
    """The network that detects: the only member's own, or one that looks several times.

    Args:
        members: one network, or those of an ensemble, which looks with all of them in any case.
        settings: of the weights, with the overrides of the command line.
        augment: None does what `settings.augment` says, which is nothing unless its `form` is set. False looks once at
            each picture. True looks several times, by the settings' form or else by averaging; a form (average, maxout,
            union, detectron2) by that; a `ViewsConfig` by what it says.

    Raises:
        UserError: there is no such form, it is of a single model, or it does not go with other settings.
    """
    views = choose_views(settings, augment)
    if views is None and len(members) == 1:
        return Detecting(members[0].network, members[0].input)
    # Each view resizes the picture for itself, so it has to come as it is: min_size_test=0 does not resize.
    original = replace(members[0].input, min_size_test=0, resize="pil", pad_to_multiple=1)
    return Detecting(AugmentedDetector(members, views or ONE_VIEW).eval(), original)


def choose_views(settings: DetectionConfig, augment: Augment) -> ViewsConfig | None:
    """Which views somebody asks for, or None for the picture as it is; see `choose_detecting`.

    Raises:
        UserError: there is no such form, or it does not go with other settings.
    """
    if isinstance(augment, ViewsConfig):
        views = augment
    elif augment is None or augment is False:
        views = settings.augment if augment is None else ViewsConfig()
    elif augment is True:
        views = replace(settings.augment, form=settings.augment.form or "average")
    elif augment in FORMS:
        views = replace(settings.augment, form=augment)
    else:
        raise UserError(f"augment={shown(augment)}: choose True, False or one of {', '.join(FORMS)}.")
    replace(settings, augment=views)  # which checks that they go together
    return views if views.form is not None else None


def describe_looks(network: nn.Module) -> str:
    """How a network looks at each picture, in one line; nothing for one that looks once."""
    if not isinstance(network, AugmentedDetector):
        return ""
    models = f"{len(network.members)} models, " if len(network.members) > 1 else ""
    return f"{network.settings.form}, {models}{network.looks_per_picture} views of each picture"


def score_in_looks(looks: Sequence[Look], settings: ViewsConfig, boxes: Sequence[Tensor]) -> Scored:
    """Class scores and boxes of regions of N original images, averaged over what the looks say.

    By the form maxout the looks of one network that are mirrored alike say one thing together.
    """
    if settings.form != "maxout":
        return average(one.score(boxes) for one in looks)
    groups: dict[tuple[int, bool, bool], list[Look]] = {}
    for one in looks:
        groups.setdefault((id(one.member), one.view.horizontal, one.view.vertical), []).append(one)
    return average(score_by_maxout(group, boxes, settings.canonical_size) for group in groups.values())


def average(parts: Iterable[Scored]) -> Scored:
    """The mean of class scores and of boxes that several views or networks give to the same regions.

    A region for which one of them gave a NaN has NaN for its mean, and is not selected.
    """
    count = 0
    totals: list[Tensor] = []
    for scores, boxes in parts:  # one after the other: together they would take much memory
        count += 1
        added = [*scores, *boxes]
        totals = [total + one for total, one in zip(totals, added, strict=True)] if totals else added
    means = [total / count for total in totals]
    half = len(means) // 2
    return means[:half], means[half:]
