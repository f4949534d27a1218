"""Faster R-CNN with a ResNet-C4 backbone: the stages in the order in which an image passes through them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.model.anchors import AnchorGenerator
from detector.model.postprocess import DetectionSettings, select_detections
from detector.model.proposals import ProposalSettings, select_proposals
from detector.model.resnet import ResNetC4
from detector.model.roi_head import RoIHead
from detector.model.roi_pooling import RoIPooling
from detector.model.rpn import RPNHead
from detector.structures import ImageBatch, Proposals, Selection, Size


class FasterRCNN(nn.Module):
    """Images in, detections out (Faster R-CNN, figure 2; ResNet paper, appendix A).

    Args:
        backbone: conv1 … conv4_x.
        anchors: the boxes that the RPN scores.
        rpn: objectness and deltas for every anchor.
        roi_pooling: RoIs to maps of one size.
        roi_head: conv5_x, average pooling, class scores and boxes.
        proposal_settings, detection_settings: how many are kept at test time.
        pixel_mean, pixel_std: RGB, on the scale 0 to 255.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: ResNetC4,
        anchors: AnchorGenerator,
        rpn: RPNHead,
        roi_pooling: RoIPooling,
        roi_head: RoIHead,
        proposal_settings: ProposalSettings,
        detection_settings: DetectionSettings,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchors = anchors
        self.rpn = rpn
        self.roi_pooling = roi_pooling
        self.roi_head = roi_head
        self.proposal_settings = proposal_settings
        self.detection_settings = detection_settings
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, images: ImageBatch) -> list[Selection]:
        """Detect objects. Returns N `Selection`s in the frame of the input images."""
        features = self.backbone(self.normalize(images))
        proposals = self.propose(features, images.sizes)
        pooled = self.roi_pooling(features, [p.boxes for p in proposals])
        class_logits, deltas = self.roi_head(pooled)
        counts = [p.boxes.shape[0] for p in proposals]
        return [
            select_detections(logits, d, p.boxes, size, self.detection_settings)
            for logits, d, p, size in zip(
                class_logits.split(counts), deltas.split(counts), proposals, images.sizes, strict=True
            )
        ]

    def normalize(self, images: ImageBatch) -> Tensor:
        """Pixels [N, 3, H, W] of 0 to 255 to network input; the padding is zero *after* normalisation."""
        return normalize(images, self.pixel_mean, self.pixel_std)

    def propose(self, features: Tensor, sizes: Sequence[Size]) -> list[Proposals]:
        """Regions that may hold an object: [N, C, H', W'] to N `Proposals`."""
        logits, deltas = self.rpn(features)
        anchors = self.anchors(features.shape[2], features.shape[3])
        return [
            select_proposals(image_logits, image_deltas, anchors, size, self.proposal_settings)
            for image_logits, image_deltas, size in zip(logits, deltas, sizes, strict=True)
        ]


def normalize(images: ImageBatch, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels to network input of the type of `mean`; mean, std: [3, 1, 1] RGB on the scale 0 to 255."""
    pixels = (images.pixels.to(mean.dtype) - mean) / std
    for image, (height, width) in zip(pixels, images.sizes, strict=True):
        image[:, height:, :] = 0
        image[:, :, width:] = 0
    return pixels
