"""Our network against batches recorded from mmdetection: stage by stage, and from the pictures' bytes to detections."""

from dataclasses import replace

import torch
from comparison import Comparison, Rows
from detectron2_cases import box_deltas, class_logits, rows, rpn_deltas, rpn_logits
from mmdetection_cases import THRESHOLDS, Case, Reference
from torch import Tensor

from detector.config import InputConfig
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.read import read_image
from detector.datasets.pictures.transforms import prepare_for_test
from detector.model.fpn import FPN
from detector.model.postprocess import decode_scores, select_detections, to_original_frame
from detector.model.proposals import select_proposals
from detector.model.roi_pooling import indexed_rois, roi_levels
from detector.structures import FeatureMap, Features, ImageBatch, Selection

# What float rounding needs, by the references' own measurements (README, "Tolerances").
PIXEL, FEATURE, OUTPUT, BOX, SCORE = 1e-5, 1e-3, 5e-3, 0.02, 5e-4
# A stage fed with the saved input of that stage has only its own rounding.
STAGE_FEATURE, STAGE_OUTPUT, STAGE_BOX, STAGE_SCORE = 2e-4, 1e-3, 2e-3, 1e-5


def read_batch(case: Case, config: InputConfig) -> ImageBatch:
    """From the pictures' bytes to network input."""
    pictures = [read_image(path.read_bytes()) for path in case.pictures]
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    prepared = [prepare_for_test(picture, config) for picture in pictures]
    return make_batch(prepared, sizes, list(range(len(pictures))), config.pad_to_multiple)


@torch.inference_mode()
def compare_stages(reference: Reference, case: Case) -> Comparison:
    """Every stage, fed with the saved input of that stage."""
    found = Comparison()
    model, saved = reference.model, case.arrays
    pixels = reference.rgb(saved["preprocessed"]).contiguous()
    features = compare_features(found, model.backbone, pixels, case, STAGE_FEATURE)
    compare_rpn(found, reference, features, case, STAGE_FEATURE)
    compare_proposals(found, reference, case, features)

    boxes = saved["proposal_boxes"]
    if "roi_level" in saved:
        levels = roi_levels(indexed_rois([boxes]), len(features) - 1, "mmdetection")
        found.equal("roi_level", levels.tolist(), saved["roi_level"].tolist())
    pooled = model.roi_head.pooling(features, [boxes])
    first = saved["roi_pooled_first8"]
    found.close("roi_pooled_first8", pooled[: len(first)], first, STAGE_FEATURE)
    count = saved["roi_vectors"].shape[0]
    body = model.roi_head.conv5_x if reference.config.model.kind == "c4" else model.roi_head.layers
    if "roi_shared_first2" in saved:
        found.close("roi_shared_first2", body[:-1](first[:2]), saved["roi_shared_first2"], STAGE_FEATURE)
    found.close("roi_vectors", body(pooled[:count]), saved["roi_vectors"], STAGE_OUTPUT)
    compare_head(found, model.roi_head(features, [boxes]), case, 0, OUTPUT)
    logits, deltas = model.roi_head.predict(saved["roi_vectors"])
    found.close("cls_score, of vectors", logits, class_logits(saved["cls_score"])[:count], STAGE_OUTPUT)
    found.close("bbox_pred, of vectors", deltas, box_deltas(saved["bbox_pred"])[:count], STAGE_OUTPUT)
    compare_selection(found, reference, case)
    return found


def compare_features(
    found: Comparison, backbone: torch.nn.Module, pixels: Tensor, case: Case, tolerance: float
) -> Features:
    """Maps of the backbone, and of the pyramid from them. Returns the saved maps that the heads see."""
    features: Features = backbone(pixels)
    names = ["backbone"]
    if isinstance(backbone, FPN):
        for i, ((values, _), theirs) in enumerate(zip(backbone.body(pixels), case.maps("backbone"), strict=True)):
            found.close(f"backbone_{i}", values, theirs, tolerance)
        names = ["fpn"]
    (name,) = names
    saved = case.maps(name)
    found.equal(f"number of maps, {name}", len(features), len(saved))
    for i, ((values, _), theirs) in enumerate(zip(features, saved, strict=True)):
        found.close(f"{name}_{i}", values, theirs, tolerance)
    return tuple(FeatureMap(theirs, ours.stride) for ours, theirs in zip(features, saved, strict=True))


def compare_rpn(found: Comparison, reference: Reference, features: Features, case: Case, tolerance: float) -> None:
    """Objectness and deltas of every map."""
    saved = zip(reference.model.rpn(features), case.maps("rpn_logits"), case.maps("rpn_deltas"), strict=True)
    for i, ((logits, deltas), their_logits, their_deltas) in enumerate(saved):
        found.close(f"rpn_logits_{i}", logits, rpn_logits(their_logits), tolerance)
        found.close(f"rpn_deltas_{i}", deltas, rpn_deltas(their_deltas), tolerance)


def compare_proposals(found: Comparison, reference: Reference, case: Case, features: Features) -> None:
    """Proposals from the saved outputs of the RPN, for every picture of the batch."""
    model = reference.model
    scored = [
        (rpn_logits(logits), rpn_deltas(deltas))
        for logits, deltas in zip(case.maps("rpn_logits"), case.maps("rpn_deltas"), strict=True)
    ]
    anchors = model.anchors(features)
    for i in range(len(case.pictures)):
        of_picture = [(logits[i], deltas[i]) for logits, deltas in scored]
        ours = select_proposals(of_picture, anchors, case.size(i, "img_shape"), model.proposal_settings)
        theirs = Rows(case.image(i, "proposal_boxes"), case.image(i, "proposal_scores"))
        found.same_rows("proposals", Rows(ours.boxes, ours.logits.sigmoid()), theirs, STAGE_BOX, STAGE_SCORE)


def compare_head(found: Comparison, ours: tuple[Tensor, Tensor], case: Case, index: int, tolerance: float) -> None:
    """Class logits and deltas of the saved proposals."""
    found.close("cls_score", ours[0], class_logits(case.image(index, "cls_score")), tolerance)
    found.close("bbox_pred", ours[1], box_deltas(case.image(index, "bbox_pred")), tolerance)


def compare_selection(found: Comparison, reference: Reference, case: Case) -> None:
    """Detections from the saved outputs of the head, in both frames, for every picture of the batch."""
    for i in range(len(case.pictures)):
        logits, deltas = class_logits(case.image(i, "cls_score")), box_deltas(case.image(i, "bbox_pred"))
        settings = reference.model.detection_settings
        scored = decode_scores(
            logits, deltas, case.image(i, "proposal_boxes"), settings.delta_weights, settings.limit_shrinking
        )
        compare_detections(found, reference, scored, case, i, (STAGE_BOX, STAGE_SCORE))


def compare_detections(
    found: Comparison,
    reference: Reference,
    scored: tuple[Tensor, Tensor],
    case: Case,
    index: int,
    tolerances: tuple[float, float],
) -> None:
    """What is selected among scored boxes, at every recorded threshold and in both frames.

    In the frame of the network they measured overlaps there, in that of the file there.
    """
    size, original = case.size(index, "img_shape"), case.size(index, "ori_shape")
    for prefix, threshold in THRESHOLDS:
        settings = replace(reference.model.detection_settings, score_threshold=threshold)
        ours = select_detections(*scored, size, settings, original)
        moved = to_original_frame(ours, size, original)
        found.same_rows(f"{prefix}_out", rows(moved), case.detections(index, prefix, "out"), *tolerances)
        if case.has(f"{prefix}_net_boxes"):
            in_network = replace(settings, nms_frame="input")
            ours = select_detections(*scored, size, in_network)
            found.same_rows(f"{prefix}_net", rows(ours), case.detections(index, prefix, "net"), *tolerances)


@torch.inference_mode()
def compare_end_to_end(reference: Reference, case: Case) -> Comparison:
    """From the pictures' bytes to detections in their frame, with everything in between that was recorded."""
    found = Comparison()
    model = reference.model
    images = read_batch(case, reference.config.input)
    for i, size in enumerate(images.sizes):
        found.equal("img_shape", size, case.size(i, "img_shape"))
        found.equal("ori_shape", images.original_sizes[i], case.size(i, "ori_shape"))
        if case.has("image_u8_resized"):
            height, width = size
            theirs = case.image(i, "image_u8_resized").flip(0)  # it is BGR in every case
            found.close("image_u8_resized", images.pixels[i, :, :height, :width], theirs, 0.0)
    pixels = model.normalize(images)
    if "preprocessed" in case.arrays:
        found.close("preprocessed", pixels, reference.rgb(case.arrays["preprocessed"]), PIXEL)
    else:
        padded = case.arrays["padded_shape" if "padded_shape" in case.arrays else "pad_shape"]
        found.equal("padded_shape", list(pixels.shape[2:]), padded.tolist())
    features = model.features(images)
    if case.has_stages:
        compare_features(found, model.backbone, pixels, case, FEATURE)
    if case.maps("rpn_logits"):
        compare_rpn(found, reference, features, case, FEATURE)
    proposals = model.propose(features, images.sizes)
    for i, ours in enumerate(proposals):
        theirs_ = Rows(case.image(i, "proposal_boxes"), case.image(i, "proposal_scores"))
        found.same_rows("proposals", Rows(ours.boxes, ours.logits.sigmoid()), theirs_, BOX, SCORE)
    scores, boxes = model.score(features, [p.boxes for p in proposals])
    for i in range(len(images)):
        compare_detections(found, reference, (scores[i], boxes[i]), case, i, (BOX, SCORE))
    whole: list[Selection] = model(images)
    for i, selection in enumerate(whole):
        moved = to_original_frame(selection, images.sizes[i], images.original_sizes[i])
        found.same_rows("det005_out, forward", rows(moved), case.detections(i, "det005", "out"), BOX, SCORE)
    return found
