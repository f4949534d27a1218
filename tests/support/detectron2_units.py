"""Small functions against recorded inputs and outputs: `units.npz`, `resize_shapes.json`, `lr_schedules.json`."""

from pathlib import Path

import numpy as np
import torch
from comparison import Comparison, Rows
from detectron2_cases import CPU, box_deltas, read_json
from torch import Tensor

from detector.boxes import decode_deltas, encode_deltas, pairwise_iou
from detector.config import TrainConfig
from detector.datasets.pictures.sizes import resized_size
from detector.model.anchors import AnchorGenerator
from detector.model.postprocess import DetectionSettings, decode_scores, select_detections
from detector.model.roi_pooling import RoIPooling
from detector.structures import FeatureMap
from detector.training.matcher import match
from detector.training.schedule import learning_rate

Units = dict[str, Tensor]


def read_units(root: Path, device: torch.device = CPU) -> Units:
    """The arrays of `units.npz`, on a device."""
    with np.load(root / "units.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]).to(device) for key in arrays.files}


def compare_units(units: Units) -> Comparison:
    """Box codec, IoU, anchors, matcher, NMS and RoIAlign."""
    found = Comparison()
    compare_boxes(found, units)
    compare_anchors(found, units)
    compare_matcher(found, units)
    compare_nms(found, units, "small")
    compare_nms(found, units, "large")
    compare_roi_align(found, units)
    return found


def compare_boxes(found: Comparison, units: Units) -> None:
    """Some deltas are so large that growth is limited. Boxes reach 10⁵ pixels, so their rounding is relative."""
    boxes, targets = units["coder_boxes"], units["coder_targets"]
    for name, weights in (("w1111", (1.0, 1.0, 1.0, 1.0)), ("w101055", (10.0, 10.0, 5.0, 5.0))):
        decoded = decode_deltas(boxes, box_deltas(units["coder_deltas_3_per_box"]), weights)
        expected = box_deltas(units[f"coder_apply_{name}"])
        scale = expected.abs().clamp(min=1)
        found.close("decoded boxes", decoded / scale, expected / scale, 1e-5)
        found.close("encoded deltas", encode_deltas(boxes, targets, weights), units[f"coder_get_{name}"], 1e-5)
    found.close("IoU", pairwise_iou(boxes, targets), units["iou_b_t"], 1e-6)


def compare_anchors(found: Comparison, units: Units) -> None:
    """In one cell, and over a grid."""
    anchors = AnchorGenerator((32, 64, 128, 256, 512), (0.5, 1.0, 2.0)).to(units["cell_anchors"].device)
    (grid,) = anchors((FeatureMap(torch.zeros(1, 1, 3, 5), 16),))
    found.close("anchors of a cell", anchors.base, units["cell_anchors"], 0.0)
    found.close("anchors of a grid", grid.all(), units["anchors_3x5"], 0.0)


def compare_matcher(found: Comparison, units: Units) -> None:
    """A matrix with ties, with IoUs equal to the thresholds, and with a box whose best is 0.05."""
    for name, thresholds, keep_best in (("rpn", (0.7, 0.3), True), ("roi", (0.5, 0.5), False)):
        matches = match(units["matcher_quality"], *thresholds, keep_best)
        found.equal(f"{name} matches", matches.index.tolist(), units[f"matcher_{name}_idx"].tolist())
        found.equal(f"{name} labels", matches.labels.tolist(), units[f"matcher_{name}_label"].tolist())


def compare_nms(found: Comparison, units: Units, size: str) -> None:
    """Through the selection of detections, at both numbers of boxes between which torchvision changes its method."""
    boxes, scores, classes = (units[f"nms_{size}_{key}"] for key in ("boxes", "scores", "ids"))
    count, num_classes = len(scores), int(classes.max()) + 1
    probabilities = boxes.new_zeros(count, num_classes + 1)
    probabilities[:, 0] = 1 - scores
    probabilities[torch.arange(count, device=boxes.device), classes + 1] = scores
    settings = DetectionSettings(
        score_threshold=0.0, nms_threshold=0.5, max_per_image=count, min_size=0.0, delta_weights=(1.0, 1.0, 1.0, 1.0)
    )
    boxes = boxes + (1 - boxes.min()).clamp(min=0).ceil()  # whatever begins outside of the image would be clipped
    frame = int(boxes.max()) + 1
    still = boxes.new_zeros(count, num_classes, 4)
    scored = decode_scores(probabilities.log(), still, boxes, settings.delta_weights)
    detections = select_detections(*scored, (frame, frame), settings)
    kept = units[f"nms_{size}_keep_050"]
    found.equal(f"{size} NMS, classes in order", detections.labels.tolist(), (classes[kept] + 1).tolist())
    ours = Rows(detections.boxes, detections.scores, detections.labels)
    found.same_rows(f"{size} NMS", ours, Rows(boxes[kept], scores[kept], classes[kept] + 1), 1e-3, 1e-6)


def compare_roi_align(found: Comparison, units: Units) -> None:
    """With RoIs partly and wholly outside, without area, and thin."""
    features, rois = units["roi_feat"], units["roi_rois"]
    pooling = RoIPooling("align", size=14, sampling_ratio=0, aligned=True)
    for image in range(features.shape[0]):
        own = rois[:, 0] == image
        pooled = pooling((FeatureMap(features[image : image + 1], 16),), [rois[own, 1:]])
        found.close("RoIAlign", pooled, units["roi_align_14_s16_ratio0_aligned"][own], 1e-5)


def compare_resize_shapes(root: Path) -> Comparison:
    """The rule of the shortest edge and its rounding."""
    found = Comparison()
    for height, width, short_edge, max_size, *expected in read_json(root / "resize_shapes.json")["rows"]:
        ours = resized_size((height, width), short_edge, max_size, "pil")
        found.equal(f"{height}×{width} to {short_edge}, {max_size}", list(ours), expected)
    return found


def compare_schedules(root: Path) -> Comparison:
    """Warm-up and steps, at iterations on both sides of every change."""
    found = Comparison()
    for name, recorded in read_json(root / "lr_schedules.json").items():
        train = TrainConfig(
            learning_rate=recorded["base_lr"],
            reference_batch_size=None,
            milestones=tuple(recorded["steps"]),
            iterations=recorded["max_iter"],
            warmup_iterations=recorded["warmup_iters"],
            warmup_factor=recorded["warmup_factor"],
        )
        for iteration, rate in zip(recorded["iters"], recorded["lr"], strict=True):
            found.relative(f"{name}", learning_rate(iteration, train), rate, 1e-12)
    return found
