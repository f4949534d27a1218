"""The fast execution of a network: the same parameters, the same detections, less work.

`FasterRCNN` is the definition; this is what predicts. What differs is only *how*: batch norms are folded into the
convolutions before them, biases, residuals and ReLUs ride on the convolutions, everything is channels-last, the 1×1
convolutions that open conv5_x run before RoIAlign and not after (`fast/roi_head.py`), RoIAlign is a sparse matrix
(`fast/roi_align.py`), RoIs go through conv5_x in chunks that stay in cache, and on a CPU 3×3 convolutions multiply
less: Winograd's of large maps (`winograd.py`), and those of RoIs' maps, which are filtered whole (`whole_maps.py`).
"""

import torch
from torch import Tensor, nn

from detector.errors import UserError
from detector.fast.backbone import FusedBackbone
from detector.fast.choose import choose_execution
from detector.fast.compiled import Compiled
from detector.fast.convolution import Execution
from detector.fast.roi_head import FusedRoIHead
from detector.fast.rpn import FusedRPN
from detector.model.faster_rcnn import FasterRCNN, normalize
from detector.model.postprocess import select_detections
from detector.structures import ImageBatch, Selection

# RoIs that go through conv5_x together: on the CPU few enough for the cache, elsewhere enough to fill the device.
CPU_CHUNK, DEVICE_CHUNK = 50, 1024


def fuse(
    model: FasterRCNN, dtype: torch.dtype = torch.float32, compiled: bool = False, timed: bool = True
) -> "FusedFasterRCNN":
    """Make the fast execution of a network on the device where it is.

    It copies the parameters: when the network's change afterwards, or the network moves to another device, fuse again.
    Batch norms are taken as in evaluation, with their stored statistics. Gradients do not flow through it.

    Args:
        model: the network.
        dtype: float32 gives the network's detections to float rounding. bfloat16 is about twice as fast where the
            processor has it and near to them: weights are folded in float64 before they are rounded, and RoIAlign,
            scores and boxes stay float32. Where the processor does not have it, it is float32. float64 is for tests.
        compiled: compile backbone and conv5_x with `torch.compile` when they first run, which takes a minute.
        timed: where kernels give the same bits, try for up to half a second which is the faster, once a process.

    Raises:
        UserError: another type.
    """
    if dtype not in (torch.float32, torch.bfloat16, torch.float64):
        raise UserError(f"dtype={dtype}: choose torch.float32 or torch.bfloat16.")
    execution = choose_execution(dtype, model.device, compiled, timed)
    network = FusedFasterRCNN(model, execution, CPU_CHUNK if model.device.type == "cpu" else DEVICE_CHUNK)
    if compiled:
        stage = network.roi_head.stage
        network.backbone = Compiled(network.backbone, "the backbone")
        stage.layers = Compiled(stage.layers, "conv5_x")
    return network


class FusedFasterRCNN(nn.Module):
    """What `fuse` makes; call it as the network itself.

    Args:
        model: the network whose parameters are copied.
        execution: type and kernels.
        chunk: RoIs that go through conv5_x together.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: FasterRCNN, execution: Execution, chunk: int) -> None:
        super().__init__()
        self.execution = execution
        self.register_buffer("pixel_mean", model.pixel_mean.to(execution.precision, copy=True))
        self.register_buffer("pixel_std", model.pixel_std.to(execution.precision, copy=True))
        self.backbone: nn.Module = FusedBackbone(model.backbone, execution)
        self.rpn = FusedRPN(model.rpn, model.anchors, model.proposal_settings, execution)
        self.roi_head = FusedRoIHead(model.roi_pooling, model.roi_head, chunk, execution)
        self.detection_settings = model.detection_settings

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @torch.no_grad()
    def forward(self, images: ImageBatch) -> list[Selection]:
        """Detect objects. Returns N `Selection`s in the frame of the input images."""
        features = self.features(images)
        proposals = [p.boxes for p in self.rpn(features, images.sizes)]
        class_logits, deltas = self.roi_head(features, proposals)
        counts = [boxes.shape[0] for boxes in proposals]
        return [
            select_detections(logits, d, boxes, size, self.detection_settings)
            for logits, d, boxes, size in zip(
                class_logits.split(counts), deltas.split(counts), proposals, images.sizes, strict=True
            )
        ]

    def features(self, images: ImageBatch) -> Tensor:
        """conv4_x of the pictures, [N, C, H', W'] channels-last."""
        pixels = self.execution.channels_last(normalize(images, self.pixel_mean, self.pixel_std))
        if pixels.device.type != "cpu":
            return self.backbone(pixels)
        # One picture at a time: together they would only take more memory.
        return torch.cat([self.backbone(picture) for picture in torch.split(pixels, 1)])
