"""detectron2's test-time augmentation, number for number (its `GeneralizedRCNNWithTTA`, for boxes).

Each view detects by itself: score threshold, NMS and the limit on detections as always. All boxes are moved to the
original image, and NMS goes over their union; no score changes and no box moves. Its habits are kept, for they show in
the numbers: views go through the network three at a time, in the order of sizes with the mirrored one after each,
padded to the largest of the three, and a network sees padding near a border; the picture has been resized once before
views are made of it, as in detectron2's evaluation, unless `resize_first` is false.
"""

import numpy as np
import torch

from detector import boxes as box_ops
from detector.config import ViewsConfig
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.transforms import prepare_for_test
from detector.inference.ensemble import Member
from detector.inference.views import views_of
from detector.model.postprocess import merge_boxes
from detector.structures import Selection, Size

VIEWS_AT_ONCE = 3
MERGED_SCORE = 1e-8  # what scores more takes part in the last NMS


def detect_as_detectron2(member: Member, picture: np.ndarray, settings: ViewsConfig) -> Selection:
    """The detections of one picture, in its own frame.

    Args:
        member: the network, which runs on its own device.
        picture: [H, W, 3] uint8 RGB, the original image.
        settings: sizes and whether to mirror; `form` is detectron2.
    """
    original: Size = picture.shape[:2]
    given = prepare_for_test(picture, member.input) if settings.resize_first else picture
    given_size: Size = given.shape[:2]
    network = member.network
    moved: list[Selection] = []
    all_views = views_of(settings, member.input)
    for start in range(0, len(all_views), VIEWS_AT_ONCE):
        views = all_views[start : start + VIEWS_AT_ONCE]
        pixels = [view.pixels(given, member.input) for view in views]
        batch = make_batch(pixels, [original] * len(views), list(range(len(views))), member.input.pad_to_multiple)
        for view, size, selection in zip(views, batch.sizes, network(batch.to(network.device)), strict=True):
            boxes = view.to_original(selection.boxes, given_size, size)
            moved.append(Selection(box_ops.rescale(boxes, given_size, original), selection.scores, selection.labels))
    boxes, scores, labels = (torch.cat([getattr(one, name) for one in moved]) for name in ("boxes", "scores", "labels"))
    entering = scores > MERGED_SCORE
    return merge_boxes(
        box_ops.clip(boxes[entering], original), scores[entering], labels[entering], network.detection_settings
    )
