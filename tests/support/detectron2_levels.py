"""FPN and DC5 networks against recorded batches: stage by stage on saved inputs, and from bytes to detections.

The folders beside `fixtures/detectron2_fpn/README.md` have the layout of those of C4, with arrays of every level.
"""

from pathlib import Path

import torch
from comparison import Comparison, Rows
from detectron2_cases import (
    Case,
    Reference,
    box_deltas,
    checkpoints,
    class_logits,
    detections,
    recorded,
    rows,
    rpn_deltas,
    rpn_logits,
)
from detectron2_inference import (
    BOX,
    FEATURE,
    OUTPUT,
    PIXEL,
    SCORE,
    STAGE_BOX,
    STAGE_FEATURE,
    STAGE_OUTPUT,
    STAGE_SCORE,
    compare_selection,
    read_batch,
    with_threshold,
)
from torch import Tensor

from detector.model.faster_rcnn import FasterRCNN
from detector.model.fpn import FPN
from detector.model.postprocess import select_detections, to_original_frame
from detector.model.proposals import select_proposals
from detector.model.roi_head import FullyConnectedHead
from detector.model.roi_pooling import indexed_rois, roi_levels
from detector.structures import FeatureMap, Features

# theirs: suffix of the level's arrays → stride.
PYRAMID = {"_p2": 4, "_p3": 8, "_p4": 16, "_p5": 32, "_p6": 64}
ONE_MAP = {"": 16}


def recorded_levels() -> Path | None:
    """The folder of what was recorded of FPN and DC5; None where it is not at hand."""
    folder = recorded()
    beside = None if folder is None else folder.parent / "detectron2_fpn"
    return beside if beside is not None and beside.is_dir() else None


def level_cases() -> list[tuple[Path, Case]]:
    """Every checkpoint with each of its batches."""
    root = recorded_levels()
    folders = [] if root is None else [f for f in sorted(root.iterdir()) if any(f.glob("model.*"))]
    return [
        (checkpoint, Case(folder, path.stem.removeprefix("case_")))
        for folder in folders
        for path in sorted(folder.glob("case_*.npz"))
        for checkpoint in checkpoints(folder)
    ]


def levels_of(reference: Reference) -> dict[str, int]:
    return PYRAMID if reference.config.model.kind == "fpn" else ONE_MAP


def saved_features(reference: Reference, case: Case) -> Features:
    """p2 … p6, or res5."""
    saved = case.arrays
    if reference.config.model.kind == "dc5":
        return (FeatureMap(saved["res5"], 16),)
    return tuple(FeatureMap(saved[suffix.removeprefix("_")], stride) for suffix, stride in PYRAMID.items())


@torch.inference_mode()
def compare_level_stages(reference: Reference, case: Case) -> Comparison:
    """Every stage of one picture, fed with the saved input of that stage."""
    found = Comparison()
    model, saved = reference.model, case.arrays
    head = model.roi_head
    assert isinstance(head, FullyConnectedHead)
    features = saved_features(reference, case)
    if "preprocessed" in saved:
        compare_backbone(found, reference, case, features)
    anchors = model.anchors(features)
    for (suffix, _), scores, grid in zip(levels_of(reference).items(), model.rpn(features), anchors, strict=True):
        if f"rpn_logits{suffix}" in saved:
            found.close("rpn_logits", scores.logits, rpn_logits(saved[f"rpn_logits{suffix}"]), STAGE_FEATURE)
            found.close("rpn_deltas", scores.deltas, rpn_deltas(saved[f"rpn_deltas{suffix}"]), STAGE_FEATURE)
            found.close("anchors", grid.all(), saved[f"anchors{suffix}"], 0.0)
    boxes = saved["proposal_boxes"]
    # Not all maps of the RPN are saved of every case: it is fed with the pyramid.
    proposals = model.propose(features, [case.size(0, "image_size_net")])[0]
    theirs = Rows(boxes, saved["proposal_logits"])
    found.same_rows("proposals", Rows(proposals.boxes, proposals.logits), theirs, STAGE_BOX, STAGE_FEATURE)

    if "proposal_levels" in saved:
        levels = roi_levels(indexed_rois([boxes]), len(features) - 1, "detectron2")
        found.equal("proposal_levels", (levels + 2).tolist(), saved["proposal_levels"].tolist())
    pooled = head.pooling(features, [boxes])
    found.close("roi_pooled_first8", pooled[:8], saved["roi_pooled_first8"][:8], STAGE_FEATURE)
    if "roi_pooled_levels" in saved:
        chosen = saved["roi_pooled_levels_index"]
        found.close("roi_pooled_levels", pooled[chosen], saved["roi_pooled_levels"], STAGE_FEATURE)
    count = saved["box_head_fc1"].shape[0]
    first = torch.relu(head.layers.fcs[0](pooled[:count].flatten(1)))
    found.close("box_head_fc1", first, saved["box_head_fc1"], STAGE_OUTPUT)
    second = torch.relu(head.layers.fcs[1](saved["box_head_fc1"]))
    found.close("box_head_fc2", second, saved["box_head_fc2"], STAGE_OUTPUT)
    logits, deltas = head.predict(saved["box_head_fc2"])
    found.close("class_logits", logits, class_logits(saved["class_logits"])[:count], STAGE_OUTPUT)
    found.close("box_deltas", deltas, box_deltas(saved["box_deltas"])[:count], STAGE_OUTPUT)
    logits, deltas = head(features, [boxes])
    found.close("class_logits, from the maps", logits, class_logits(saved["class_logits"]), OUTPUT)
    found.close("box_deltas, from the maps", deltas, box_deltas(saved["box_deltas"]), OUTPUT)
    compare_selection(found, reference, case)
    return found


def compare_backbone(found: Comparison, reference: Reference, case: Case, features: Features) -> None:
    """From the saved network input to every map of the ResNet and of the pyramid."""
    backbone, saved = reference.model.backbone, case.arrays
    pixels = reference.rgb(saved["preprocessed"]).contiguous()
    if isinstance(backbone, FPN):
        for number, ours in enumerate(backbone.body(pixels), start=2):
            found.close(f"res{number}", ours.values, saved[f"res{number}"], STAGE_FEATURE)
    for ours, theirs in zip(backbone(pixels), features, strict=True):
        found.close("maps", ours.values, theirs.values, STAGE_FEATURE)


@torch.inference_mode()
def compare_level_proposals(reference: Reference, case: Case) -> Comparison:
    """Proposals of one picture from the saved outputs of the RPN on all levels, where they are saved."""
    found, model, saved = Comparison(), reference.model, case.arrays
    suffixes = levels_of(reference)
    if all(f"rpn_deltas{suffix}" in saved for suffix in suffixes):
        scores = [
            (rpn_logits(saved[f"rpn_logits{suffix}"])[0], rpn_deltas(saved[f"rpn_deltas{suffix}"])[0])
            for suffix in suffixes
        ]
        anchors = model.anchors(saved_features(reference, case))
        size = case.size(0, "image_size_net")
        proposals = select_proposals(scores, anchors, size, model.proposal_settings)
        theirs = Rows(saved["proposal_boxes"], saved["proposal_logits"])
        found.same_rows("proposals", Rows(proposals.boxes, proposals.logits), theirs, STAGE_BOX, STAGE_SCORE)
    return found


@torch.inference_mode()
def compare_levels_end_to_end(reference: Reference, case: Case, network: FasterRCNN | None = None) -> Comparison:
    """From the pictures' bytes to detections in their frame, with everything in between that was recorded.

    network: another execution of the reference's model.
    """
    found, model, saved = Comparison(), network or reference.model, case.arrays
    images = read_batch(case, reference.config).to(case.device)
    for i, size in enumerate(images.sizes):
        found.equal("image_size_net", size, case.size(i, "image_size_net"))
        found.equal("image_size_out", images.original_sizes[i], case.size(i, "image_size_out"))
    pixels = model.normalize(images)
    if "preprocessed" in saved:
        height, width = images.sizes[0]
        resized = images.pixels[0, :, :height, :width]
        found.close("image_u8_resized", resized, reference.rgb(saved["image_u8_resized"]), 0.0)
        found.close("preprocessed", pixels, reference.rgb(saved["preprocessed"]), PIXEL)
    if "padded_shape" in saved:
        found.equal("padded_shape", list(pixels.shape), saved["padded_shape"].tolist())
    features = model.features(images)
    for (suffix, _), ours, scores in zip(levels_of(reference).items(), features, model.rpn(features), strict=True):
        name = suffix.removeprefix("_") or "res5"
        if name in saved:
            found.close("maps", ours.values, saved[name], FEATURE)
        if f"rpn_logits{suffix}" in saved:
            found.close("rpn_logits", scores.logits, rpn_logits(saved[f"rpn_logits{suffix}"]), FEATURE)
        if f"rpn_deltas{suffix}" in saved:
            found.close("rpn_deltas", scores.deltas, rpn_deltas(saved[f"rpn_deltas{suffix}"]), FEATURE)
    proposals = model.propose(features, images.sizes)
    scores, boxes = model.score(features, [p.boxes for p in proposals])
    for i, size in enumerate(images.sizes):
        theirs = Rows(case.image(i, "proposal_boxes"), case.image(i, "proposal_logits"))
        found.same_rows("proposals", Rows(proposals[i].boxes, proposals[i].logits), theirs, BOX, FEATURE)
        compare_detections(found, reference, case, i, scores[i], boxes[i])
        assert size == images.sizes[i]
    return found


def compare_detections(
    found: Comparison, reference: Reference, case: Case, index: int, scores: Tensor, boxes: Tensor
) -> None:
    """What is selected from a picture's scored boxes at every recorded threshold, in both frames."""
    size, original = case.size(index, "image_size_net"), case.size(index, "image_size_out")
    for prefix, threshold in case.thresholds:
        ours = select_detections(scores, boxes, size, with_threshold(reference, threshold))
        found.same_rows(f"{prefix}_boxes_net", rows(ours), detections(case, index, prefix, "net"), BOX, SCORE)
        moved = to_original_frame(ours, size, original)
        found.same_rows(f"{prefix}_out_boxes", rows(moved), detections(case, index, prefix, "out"), BOX, SCORE)
