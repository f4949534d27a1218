"""`FasterRCNN` on a GPU: what differs from picture to picture lies in slots, so that the host waits once a batch.

How it works: on a CPU a tensor of the proposals that there are costs nothing. On a GPU the host must wait to learn how
many there are, and meanwhile starts no other work. Here each stage gives as many proposals or detections as there can
be, with a mark for those that there are (`proposals.py`, `postprocess.py`), and the detections of the whole batch are
fetched at its end. They are those of the stages one by one, which can still be called and give what there is alone.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from detector.fast.graphs import Graphed
from detector.fast.postprocess import SlotSelections, detection_slots
from detector.fast.proposals import limits_of, proposal_slots, ratios_of
from detector.model.faster_rcnn import FasterRCNN
from detector.model.postprocess import decode_scores
from detector.structures import ImageBatch, Selection


class SlotFasterRCNN(FasterRCNN):
    """`FasterRCNN` with the same arguments, whose forward pass waits for the device once, where its result is read."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        super().__init__(*parts, **named)
        self.graphs: Graphed | None = None

    def forward(self, images: ImageBatch) -> Sequence[Selection]:
        """Detect objects: N `Selection`s in the frame of the input images, in the host's memory.

        It returns when the device has been told what to do; whoever looks at a selection first waits for it.
        """
        return SlotSelections(self.slots(images))

    def slots(self, images: ImageBatch) -> Tensor:
        """What `postprocess.detection_slots` makes of the pictures: [N, D, 6], on the device, without a wait."""
        sizes = (images.sizes, images.original_sizes)
        measured_elsewhere = self.detection_settings.nms_frame == "original"
        ratios = (ratios_of(*sizes, self.device),) if measured_elsewhere else ()
        run = self._detect if self.graphs is None else self.graphs
        slots: Tensor = run(self.normalize(images), limits_of(images.sizes, self.device), *ratios)
        return slots

    def use_graphs(self) -> None:
        """From now on run as a CUDA graph for input sizes that come often."""
        self.graphs = Graphed(self._detect, "the network")

    def _detect(self, pixels: Tensor, limits: Tensor, ratios: Tensor | None = None) -> Tensor:
        """`slots` of network input [N, 3, H, W]; the same operators whatever is in the pictures."""
        features = self.backbone(pixels)
        proposals = proposal_slots(self.rpn(features), self.anchors(features), limits, self.proposal_settings)
        logits, deltas = self.roi_head(features, list(proposals.boxes))
        regions, settings = proposals.boxes.flatten(0, 1), self.detection_settings
        scores, boxes = decode_scores(logits, deltas, regions, settings.delta_weights, settings.limit_shrinking)
        count, places = proposals.valid.shape
        scores, boxes = scores.view(count, places, -1), boxes.view(count, places, -1, 4)
        return detection_slots(scores, boxes, proposals.valid, limits, settings, ratios)
