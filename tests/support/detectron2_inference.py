"""Our network against recorded batches: stage by stage on saved inputs, and from the pictures' bytes to detections."""

from dataclasses import dataclass, replace

import torch
from comparison import Comparison, Rows
from detectron2_cases import Case, Reference, box_deltas, class_logits, detections, rows, rpn_deltas, rpn_logits
from torch import Tensor

from detector.config import Config
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.read import read_image
from detector.datasets.pictures.transforms import prepare_for_test
from detector.model.faster_rcnn import FasterRCNN
from detector.model.postprocess import DetectionSettings, decode_scores, select_detections, to_original_frame
from detector.model.proposals import select_proposals
from detector.structures import FeatureMap, Features, ImageBatch, Proposals, Selection

# What float rounding needs, by the references' own measurements (README, "Tolerances").
PIXEL, FEATURE, OUTPUT, BOX, SCORE = 1e-5, 1e-3, 5e-3, 0.02, 5e-4
# A stage fed with the saved input of that stage has only its own rounding.
STAGE_FEATURE, STAGE_OUTPUT, STAGE_BOX, STAGE_SCORE = 2e-4, 1e-3, 2e-3, 1e-5


def read_batch(case: Case, config: Config) -> ImageBatch:
    """From the pictures' bytes to network input."""
    pictures = [read_image(path.read_bytes()) for path in case.pictures]
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    prepared = [prepare_for_test(picture, config.input) for picture in pictures]
    return make_batch(prepared, sizes, list(range(len(pictures))), config.input.pad_to_multiple)


@torch.inference_mode()
def compare_stages(reference: Reference, case: Case) -> Comparison:
    """Every stage, fed with the saved input of that stage."""
    found = Comparison()
    model, saved = reference.model, case.arrays
    size = case.size(0, "image_size_net")

    (res4,) = model.backbone(reference.rgb(saved["preprocessed"]).contiguous())
    found.close("res4", res4.values, saved["res4"], STAGE_FEATURE)

    features = (FeatureMap(saved["res4"], res4.stride),)
    ((logits, deltas),) = model.rpn(features)
    found.close("rpn_logits", logits, rpn_logits(saved["rpn_logits"]), STAGE_FEATURE)
    found.close("rpn_deltas", deltas, rpn_deltas(saved["rpn_deltas"]), STAGE_FEATURE)
    anchors = saved["anchors"]  # all of them, or as many as were kept
    found.close("anchors", model.anchors(features)[0].all()[: len(anchors)], anchors, 0.0)

    compare_proposals(found, reference, case)

    boxes = saved["proposal_boxes"]
    pooled = model.roi_head.pooling(features, [boxes])
    first = saved["roi_pooled_first8"]  # of eight RoIs, or of as many as were kept
    found.close("roi_pooled_first8", pooled[: len(first)], first, STAGE_FEATURE)
    conv5 = model.roi_head.conv5_x[:-1](saved["roi_pooled_first8"][:2])
    found.close("roi_res5_first2", conv5, saved["roi_res5_first2"], STAGE_FEATURE)
    count = saved["pooled_vectors"].shape[0]
    vectors = model.roi_head.conv5_x(pooled[:count])
    found.close("pooled_vectors", vectors, saved["pooled_vectors"], STAGE_FEATURE)

    logits, deltas = model.roi_head.predict(saved["pooled_vectors"])
    found.close("class_logits", logits, class_logits(saved["class_logits"])[:count], STAGE_OUTPUT)
    found.close("box_deltas", deltas, box_deltas(saved["box_deltas"])[:count], STAGE_OUTPUT)
    logits, deltas = model.roi_head(features, [boxes])
    found.close("class_logits, from res4", logits, class_logits(saved["class_logits"]), OUTPUT)
    found.close("box_deltas, from res4", deltas, box_deltas(saved["box_deltas"]), OUTPUT)

    compare_selection(found, reference, case)
    assert size == tuple(saved["image_u8_resized"].shape[1:])
    return found


def compare_proposals(found: Comparison, reference: Reference, case: Case) -> None:
    """Proposals from the saved outputs of the RPN, for every picture of the batch."""
    model = reference.model
    logits, deltas = rpn_logits(case.arrays["rpn_logits"]), rpn_deltas(case.arrays["rpn_deltas"])
    rows_and_columns = case.arrays["rpn_logits"].shape[2:]
    anchors = model.anchors((FeatureMap(torch.zeros(1, 1, *rows_and_columns), model.backbone.stride),))
    for i in range(len(case.pictures)):
        size = case.size(i, "image_size_net")
        proposals = select_proposals([(logits[i], deltas[i])], anchors, size, model.proposal_settings)
        theirs = Rows(case.image(i, "proposal_boxes"), case.image(i, "proposal_logits"))
        found.same_rows("proposals", Rows(proposals.boxes, proposals.logits), theirs, STAGE_BOX, STAGE_SCORE)


def compare_selection(found: Comparison, reference: Reference, case: Case) -> None:
    """Detections from the saved outputs of the head, in both frames, for every picture of the batch."""
    for i in range(len(case.pictures)):
        size, original_size = case.size(i, "image_size_net"), case.size(i, "image_size_out")
        logits, deltas = class_logits(case.image(i, "class_logits")), box_deltas(case.image(i, "box_deltas"))
        for prefix, threshold in case.thresholds:
            settings = with_threshold(reference, threshold)
            scored = decode_scores(logits, deltas, case.image(i, "proposal_boxes"), settings.delta_weights)
            selected = select_detections(*scored, size, settings)
            theirs = detections(case, i, prefix, "net")
            found.same_rows(f"{prefix}_boxes_net", rows(selected), theirs, STAGE_BOX, STAGE_SCORE)
            assert theirs.labels is not None
            moved = to_original_frame(Selection(theirs.boxes, theirs.values, theirs.labels), size, original_size)
            theirs = detections(case, i, prefix, "out")
            found.same_rows(f"{prefix}_out_boxes", rows(moved), theirs, STAGE_BOX, STAGE_SCORE)


def with_threshold(reference: Reference, threshold: float) -> DetectionSettings:
    """The model's detection settings with another score threshold."""
    return replace(reference.model.detection_settings, score_threshold=threshold)


@dataclass
class Seen:
    """What passed between the stages during one forward pass, and what came out."""

    pixels: Tensor
    features: Features
    logits: Tensor
    deltas: Tensor
    proposals: list[Proposals]
    scores: list[Tensor]
    boxes: list[Tensor]
    detections: list[Selection]


def forward_and_watch(model: FasterRCNN, images: ImageBatch) -> Seen:
    """Run the network stage by stage and keep what the stages give each other."""
    pixels = model.normalize(images)
    features = model.features(images)
    ((logits, deltas),) = model.rpn(features)
    proposals = model.propose(features, images.sizes)
    scores, boxes = model.score(features, [p.boxes for p in proposals])
    return Seen(pixels, features, logits, deltas, proposals, scores, boxes, model.select(scores, boxes, images.sizes))


@torch.inference_mode()
def compare_end_to_end(reference: Reference, case: Case) -> Comparison:
    """From the pictures' bytes to detections in their frame, with everything in between that was recorded."""
    found = Comparison()
    model = reference.model
    images = read_batch(case, reference.config).to(case.device)
    for i, size in enumerate(images.sizes):
        found.equal("image_size_net", size, case.size(i, "image_size_net"))
        found.equal("image_size_out", images.original_sizes[i], case.size(i, "image_size_out"))
    seen = forward_and_watch(model, images)
    if case.has_stages:
        found.close("image_u8_resized", images.pixels[0], reference.rgb(case.arrays["image_u8_resized"]), 0.0)
        found.close("preprocessed", seen.pixels, reference.rgb(case.arrays["preprocessed"]), PIXEL)
        found.close("res4", seen.features[0].values, case.arrays["res4"], FEATURE)
    else:
        found.equal("padded_shape", list(seen.pixels.shape), case.arrays["padded_shape"].tolist())
    found.close("rpn_logits", seen.logits, rpn_logits(case.arrays["rpn_logits"]), FEATURE)
    found.close("rpn_deltas", seen.deltas, rpn_deltas(case.arrays["rpn_deltas"]), FEATURE)
    for i, proposals in enumerate(seen.proposals):
        theirs = Rows(case.image(i, "proposal_boxes"), case.image(i, "proposal_logits"))
        found.same_rows("proposals", Rows(proposals.boxes, proposals.logits), theirs, BOX, FEATURE)
    for i, size in enumerate(images.sizes):
        for prefix, threshold in case.thresholds:
            if threshold == model.detection_settings.score_threshold:
                ours = seen.detections[i]
            else:
                ours = select_detections(seen.scores[i], seen.boxes[i], size, with_threshold(reference, threshold))
            found.same_rows(f"{prefix}_boxes_net", rows(ours), detections(case, i, prefix, "net"), BOX, SCORE)
            moved = to_original_frame(ours, size, images.original_sizes[i])
            found.same_rows(f"{prefix}_out_boxes", rows(moved), detections(case, i, prefix, "out"), BOX, SCORE)
    return found
