"""The settings of what happens to scored boxes, and of looking at a picture more than once."""

from dataclasses import dataclass, field
from typing import Literal

from detector.config.limits import check_limits, limited, require
from detector.errors import shown

AugmentForm = Literal["average", "maxout", "union", "detectron2"]


@dataclass(frozen=True)
class ViewsConfig:
    """How a trained network looks at a picture several times; `--augment` (`augment=` in Python) asks for it.

    A view is the picture at one size, as it is or mirrored. `detector/inference/augmented.py` says what the forms do.
    """

    # average: scores and boxes of all views averaged over shared proposals (ResNet paper, appendix B). maxout: for each
    # region the larger activations of two adjacent sizes. union: each view detects by itself, what they detect is
    # merged. detectron2: its GeneralizedRCNNWithTTA, number for number. null: one view; with --augment average.
    form: AugmentForm | None = None
    horizontal_flip: bool = True  # each size mirrored left to right too
    vertical_flip: bool = False  # and upside down: for pictures without an up, such as those of a microscope
    # Sizes as multiples of the usual test size. (): 1 alone; for maxout 1/3, 2/3, 1, 4/3 and 5/3 (the ResNet paper's).
    scales: tuple[float, ...] = limited((), 0.05, 20, fewest=0, most=32)
    # Sizes by their shortest edge in pixels, instead of `scales`. (): for detectron2 its own, 400, 500 … 1200.
    sizes: tuple[int, ...] = limited((), 1, 20_000, fewest=0, most=32)
    # Of the longest edge, with `sizes`; null: input.max_size_test, and 4000 for the form detectron2.
    max_size: int | None = limited(None, 1, 20_000)
    # Proposals that are scored, of those of all views the best by objectness after NMS at model.rpn.nms_threshold;
    # null: as many as a single view gives (model.rpn.post_nms_top_n_test). 0: all, without NMS, as in the paper.
    max_proposals: int | None = limited(None, 0, 1_000_000)
    # Form maxout: of the adjacent sizes those in which a region's √area is nearest to this (Ren et al. 2015), pixels.
    canonical_size: float = limited(224.0, 1, 1e5)
    # Form detectron2: views are made of the picture at the usual test size, as its evaluation does, and not of the
    # original; then every view is resampled twice.
    resize_first: bool = True

    def __post_init__(self) -> None:
        check_limits(self, "model.detection.augment.")
        given = self.sizes or self.scales
        require(
            self.form != "maxout" or len(given) != 1,
            f"model.detection.augment.form=maxout compares two sizes, and there is one ({shown(given)}); give more.",
        )


@dataclass(frozen=True)
class DetectionConfig:
    """How class scores and deltas become detections (Fast R-CNN §3)."""

    score_threshold: float = limited(0.05, 0, 1)
    nms_threshold: float = limited(0.5, 0, 1)
    # Where overlaps are measured; mmdetection moves boxes to the original image first, which may round otherwise.
    nms_frame: Literal["input", "original"] = "input"
    max_per_image: int = limited(100, 1, 50_000)
    # Detections at least this wide and high enter NMS, input pixels; torchvision uses 0.01.
    min_size: float = limited(0.0, 0, 1e4)
    # What becomes of boxes of a class that overlap. nms: the best one is kept. soft_nms_…: the scores of the others
    # decay, by 1 − IoU from nms_threshold on, or by exp(−IoU² / soft_nms_sigma) (Bodla et al. 2017). weighted_fusion:
    # those with an IoU above fusion_threshold become their weighted mean (Solovyev et al. 2021).
    merge: Literal["nms", "soft_nms_linear", "soft_nms_gaussian", "weighted_fusion"] = "nms"
    soft_nms_sigma: float = limited(0.5, 1e-6, 1e3)
    fusion_threshold: float = limited(0.55, 0, 1)
    # Box voting (Gidaris and Komodakis 2015): a kept box moves to the mean, weighted by score, of the boxes of its
    # class that overlap it by this IoU or more; theirs is 0.5. null: kept boxes stay.
    voting_threshold: float | None = limited(None, 0, 1)
    # How often the head looks again at its own boxes (the same paper, and ResNet, appendix B), and what is selected
    # from: the union of all passes, as there, or the last.
    refine_passes: int = limited(0, 0, 10)
    refine_keep: Literal["union", "last"] = "union"
    augment: ViewsConfig = field(default_factory=ViewsConfig)

    def __post_init__(self) -> None:
        check_limits(self, "model.detection.")
        require(
            self.augment.form != "detectron2" or (self.merge == "nms" and self.voting_threshold is None),
            "model.detection.augment.form=detectron2 merges by NMS alone; leave model.detection.merge and "
            "voting_threshold at their defaults, or take the form union.",
        )
