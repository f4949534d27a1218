"""mmdetection's small functions against recorded inputs and outputs: `units.npz`."""

from pathlib import Path

import numpy as np
import torch
from comparison import Comparison, Rows
from detectron2_cases import box_deltas, rpn_deltas, rpn_logits
from mmdetection_cases import EMBEDDED
from torch import Tensor

from detector import boxes as box_ops
from detector.boxes import decode_deltas, encode_deltas
from detector.model import postprocess
from detector.model.anchors import AnchorGenerator
from detector.model.proposals import ProposalSettings, select_proposals
from detector.model.roi_pooling import RoIPooling, roi_levels
from detector.structures import FeatureMap

Units = dict[str, Tensor]

SIZES, RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
CLIP, RPN_SIZE = (260, 310), (130, 200)
RECORDED_ON = "AVX2"
CODER_WEIGHTS = {"unit": (1.0, 1.0, 1.0, 1.0), "roi": (10.0, 10.0, 5.0, 5.0)}


def read_units(root: Path = EMBEDDED) -> Units:
    """The arrays of `units.npz`."""
    with np.load(root / "units.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def compare_units(units: Units) -> Comparison:
    """Anchors, box codec, levels, NMS, the choice of proposals, RoIAlign."""
    found = Comparison()
    compare_anchors(found, units)
    compare_coder(found, units)
    compare_levels(found, units)
    compare_nms(found, units)
    compare_proposals(found, units)
    compare_roi_align(found, units)
    return found


def compare_anchors(found: Comparison, units: Units) -> None:
    """In one cell, over a grid, of a pyramid, and of octaves. Theirs are computed in float32."""
    c4 = AnchorGenerator(SIZES, RATIOS, ratio_first=True)
    (grid,) = c4((FeatureMap(torch.zeros(1, 1, 3, 5), 16),))
    found.close("c4_base_anchors", c4.base, units["c4_base_anchors"], 1e-4)
    found.close("c4_anchors_3x5", grid.all(), units["c4_anchors_3x5"], 1e-4)
    pyramid = AnchorGenerator(SIZES, RATIOS, levels=5, ratio_first=True)
    theirs = torch.cat([units[f"fpn_base_anchors_{i}"] for i in range(5)])
    found.close("fpn_base_anchors", pyramid.base, theirs, 1e-4)
    octaves = AnchorGenerator([8 * 4 * 2 ** (i / 3) for i in range(3)], RATIOS, ratio_first=True)
    found.close("octave_base_anchors", octaves.base, units["octave_base_anchors"], 1e-4)


def compare_coder(found: Comparison, units: Units) -> None:
    """Some deltas are ±60. Boxes reach 10⁴ pixels, so their rounding is relative."""
    boxes, deltas = units["coder_boxes"], box_deltas(units["coder_deltas"])
    for name, weights in CODER_WEIGHTS.items():
        decoded = decode_deltas(boxes, deltas, weights, limit_shrinking=True)
        for ours, key in ((decoded, "decoded_noclip"), (box_ops.clip(decoded, CLIP), "decoded")):
            theirs = box_deltas(units[f"coder_{name}_{key}"])
            scale = theirs.abs().clamp(min=1)
            found.close(f"coder_{name}_{key}", ours / scale, theirs / scale, 1e-5)
            sides = [b[..., 2:] - b[..., :2] for b in (ours, theirs)]
            found.close(f"coder_{name}_{key}: sides", *(s / scale[..., 2:] for s in sides), 1e-5)
        encoded = encode_deltas(boxes, units[f"coder_{name}_gt"], weights)
        found.close(f"coder_{name}_encoded", encoded, units[f"coder_{name}_encoded"], 1e-4)


def compare_levels(found: Comparison, units: Units) -> None:
    """RoIs of every size, and by hand squares just below 112, 224 and 448, which 1e-6 in the logarithm lifts or not."""
    levels = roi_levels(units["level_rois"], 4, "mmdetection")
    found.equal("level_of", levels.tolist(), units["level_of"].tolist())
    for side, level in (
        (112 - 3e-5, 1),
        (112 - 1e-4, 0),
        (224 - 3e-5, 2),
        (224 - 1e-4, 1),
        (448 - 3e-5, 3),
        (448 - 2e-4, 2),
    ):
        square = torch.tensor([[0.0, 0.0, 0.0, side, side]])
        found.equal("level_of, at an edge", roi_levels(square, 4, "mmdetection").tolist(), [level])


def compare_nms(found: Comparison, units: Units) -> None:
    """Tied scores; what is kept, and in which order as far as scores say one."""
    boxes, scores, classes = units["nms_boxes"], units["nms_scores"], units["nms_idxs"]
    ours, theirs = postprocess.batched_nms(boxes, scores, classes, 0.5), units["nms_keep"]
    found.equal("nms_keep", sorted(ours.tolist()), sorted(theirs.tolist()))
    found.equal("nms_keep: scores", scores[ours].tolist(), scores[theirs].tolist())


def compare_proposals(found: Comparison, units: Units) -> None:
    """Logits that the sigmoid turns into 1.0, of which the first ones are taken."""
    settings = ProposalSettings(700, 120, 0.7, 0.0, (1.0, 1.0, 1.0, 1.0), limit_shrinking=True, rank_by="sigmoid")
    logits, deltas = units["rpn_logits"], units["rpn_deltas"]
    anchors = AnchorGenerator(SIZES, RATIOS, ratio_first=True)((FeatureMap(logits, 16),))
    ours = select_proposals([(rpn_logits(logits)[0], rpn_deltas(deltas)[0])], anchors, RPN_SIZE, settings)
    found.close("rpn_scores", ours.logits.sigmoid(), units["rpn_scores"], 1e-6)
    if torch.backends.cpu.get_cpu_capability() == RECORDED_ON:  # the order of equal scores is that of torch's sort
        theirs = Rows(units["rpn_boxes"], units["rpn_scores"])
        found.same_rows("rpn_boxes", Rows(ours.boxes, ours.logits.sigmoid()), theirs, 2e-3, 1e-6)


def compare_roi_align(found: Comparison, units: Units) -> None:
    """At 14 and 7, with as many samples as cells and with 2."""
    features = (FeatureMap(units["roi_feature"], 16),)
    boxes = [units["roi_rois"][:, 1:]]
    for size, samples, key in (
        (14, 0, "roi_aligned_14_s16"),
        (7, 0, "roi_aligned_7_s16"),
        (7, 2, "roi_aligned_7_s16_ratio2"),
    ):
        pooling = RoIPooling("align", size, sampling_ratio=samples, aligned=True)
        found.close(key, pooling(features, boxes), units[key], 1e-5)
