"""`FasterRCNN` on a GPU: what differs from picture to picture lies in slots, so that the host waits once a batch.

How it works: on a CPU a tensor of the proposals that there are costs nothing. On a GPU the host must wait to learn how
many there are, and meanwhile starts no other work. Here each stage gives as many proposals or detections as there can
be, with a mark for those that there are (`proposals.py`, `postprocess.py`), and the detections of the whole batch are
fetched at its end. They are those of the stages one by one, which can still be called and give what there is alone.
"""

from collections.abc import Sequence

from torch import Tensor

from detector.fast.postprocess import SlotSelections, detection_slots
from detector.fast.proposals import limits_of, proposal_slots, ratios_of
from detector.model.faster_rcnn import FasterRCNN
from detector.model.postprocess import decode_scores
from detector.structures import ImageBatch, Selection


class SlotFasterRCNN(FasterRCNN):
    """`FasterRCNN` whose forward pass waits for the device once, at its end."""

    def forward(self, images: ImageBatch) -> Sequence[Selection]:
        """Detect objects: N `Selection`s in the frame of the input images, in the host's memory.

        It returns when the device has been told what to do; who looks at a selection first waits for it.
        """
        return SlotSelections(self.slots(images))

    def slots(self, images: ImageBatch) -> Tensor:
        """What `postprocess.detection_slots` makes of the pictures: [N, D, 6], on the device, without a wait."""
        limits = limits_of(images.sizes, self.device)
        features = self.features(images)
        proposals = proposal_slots(self.rpn(features), self.anchors(features), limits, self.proposal_settings)
        logits, deltas = self.roi_head(features, list(proposals.boxes))
        regions, settings = proposals.boxes.flatten(0, 1), self.detection_settings
        scores, boxes = decode_scores(logits, deltas, regions, settings.delta_weights, settings.limit_shrinking)
        count, places = proposals.valid.shape
        scores, boxes = scores.view(count, places, -1), boxes.view(count, places, -1, 4)
        measured_elsewhere = settings.nms_frame == "original"
        ratios = ratios_of(images.sizes, images.original_sizes, self.device) if measured_elsewhere else None
        return detection_slots(scores, boxes, proposals.valid, limits, settings, ratios)
