"""The network made to run quickly: `FasterRCNN` assembled from the quicker parts of this folder.

(It has nothing to do with the Fast R-CNN paper.) How it works: `detector.model` is the definition; each part here
computes the same from copies of the same parameters in less time, and its file's docstring begins by explaining how.
The stages that join the parts are those of `detector.model.faster_rcnn`.

    backbone.py      norms, biases, shortcuts and ReLUs become part of the convolutions (`folding.py`)
    rpn.py           the two sibling convolutions become one
    roi_head.py      the convolutions that open conv5_x run before RoIAlign, and RoIs in chunks
    fpn.py, box_head.py, roi_levels.py       the same for a pyramid and fully connected layers

On a CPU, `roi_align.py` computes RoIAlign as a product with a sparse matrix, and 3×3 convolutions take fewer
multiplications (`winograd.py`, `whole_maps.py`). On a GPU, what passes between the stages lies in a fixed number of
slots (`slots.py`), so that the host waits once a batch; kernels are chosen by measuring them (`choose_on_gpu.py`), and
started together for sizes that come often (`graphs.py`).
"""

import copy

import torch

from detector.errors import UserError
from detector.fast.backbone import ResNetC4, ResNetC5
from detector.fast.box_head import FullyConnectedHead
from detector.fast.choose import PYRAMID_TILE_BLOCK, TILE_BLOCK, choose_execution
from detector.fast.compiled import Compiled
from detector.fast.convolution import Execution
from detector.fast.fpn import FPN
from detector.fast.graphs import Graphed
from detector.fast.roi_head import PlainHead, RoIHead
from detector.fast.rpn import RPNHead
from detector.fast.slots import SlotFasterRCNN
from detector.model import fpn as plain_fpn
from detector.model import resnet, roi_head, rpn
from detector.model.faster_rcnn import FasterRCNN

PlainBackbone = resnet.ResNetC4 | resnet.ResNetC5 | plain_fpn.FPN


def fuse(
    model: FasterRCNN, dtype: torch.dtype = torch.float32, compiled: bool = False, timed: bool = True
) -> FasterRCNN:
    """Make a second `FasterRCNN` on the same device that gives the same detections in less time.

    It copies the parameters: fuse again when those of `model` have changed or it has moved to another device. Batch
    norms use their stored statistics, as in evaluation. No gradients flow through it.

    Args:
        model: the network, as `build_model` makes it.
        dtype: float32 gives the detections of `model` to float rounding. bfloat16 comes near them and is about twice as
            fast where the processor has it: weights are folded in float64 before they are rounded, and RoIAlign, scores
            and boxes stay float32. A CPU without bfloat16 kernels uses float32 instead. float64 is for tests.
        compiled: compile backbone and conv5_x with `torch.compile` when they first run, which takes a minute.
        timed: on a CPU, measure which of several kernels that give the same bits is the fastest, for half a second at
            most, once a process. On a GPU, also choose among kernels that differ in rounding, and use CUDA graphs.

    Raises:
        UserError: another type, or a network that is fused already.
    """
    if dtype not in (torch.float32, torch.bfloat16, torch.float64):
        raise UserError(f"dtype={dtype}: choose torch.float32 or torch.bfloat16.")
    plain_backbone, plain_rpn, plain_head = plain_parts(model)
    execution = choose_execution(dtype, model.device, compiled, timed)
    backbone, head = fast_backbone(plain_backbone, execution), fast_head(plain_head, execution)
    if compiled:
        backbone.layers = Compiled(backbone.layers, "the backbone")
        if isinstance(head, RoIHead):
            head.stage.layers = Compiled(head.stage.layers, "conv5_x")
    elif model.device.type == "cuda" and timed:
        backbone.layers = Graphed(backbone.layers, "the backbone")
        if isinstance(head, RoIHead):
            head.stage.layers = Graphed(head.stage.layers, "conv5_x")
    # Slots know no other rule than NMS, and no global context.
    in_slots = model.device.type == "cuda" and model.detection_settings.is_plain and not head.has_context
    assemble = SlotFasterRCNN if in_slots else FasterRCNN
    network = assemble(
        normalize=copy.deepcopy(model.normalize).to(execution.precision),
        backbone=backbone,
        anchors=copy.deepcopy(model.anchors).float(),
        rpn=RPNHead(plain_rpn, execution, PYRAMID_TILE_BLOCK if isinstance(backbone, FPN) else TILE_BLOCK),
        roi_head=head,
        proposal_settings=model.proposal_settings,
        detection_settings=model.detection_settings,
    )
    if isinstance(network, SlotFasterRCNN) and timed and not compiled:
        network.use_graphs()
    return network.requires_grad_(False).eval()


def fast_backbone(backbone: PlainBackbone, execution: Execution) -> ResNetC4 | ResNetC5 | FPN:
    """The quicker twin of a backbone, with copies of its parameters."""
    if isinstance(backbone, plain_fpn.FPN):
        return FPN(backbone, execution)
    return ResNetC4(backbone, execution) if isinstance(backbone, resnet.ResNetC4) else ResNetC5(backbone, execution)


def fast_head(head: PlainHead, execution: Execution) -> RoIHead | FullyConnectedHead:
    """The quicker twin of a RoI head, with copies of its parameters."""
    return RoIHead(head, execution) if isinstance(head, roi_head.RoIHead) else FullyConnectedHead(head, execution)


def plain_parts(model: FasterRCNN) -> tuple[PlainBackbone, rpn.RPNHead, PlainHead]:
    """Backbone, region proposal network and head of a network that `build_model` made.

    Raises:
        UserError: its parts are others, as those of a fused network are.
    """
    # The classes of `detector.model`, whose twins in this folder have the same names.
    parts: tuple[object, object, object] = (model.backbone, model.rpn, model.roi_head)
    match parts:
        case (
            (resnet.ResNetC4() | resnet.ResNetC5() | plain_fpn.FPN()) as backbone,
            rpn.RPNHead() as proposer,
            (roi_head.RoIHead() | roi_head.FullyConnectedHead()) as head,
        ):
            return backbone, proposer, head
    raise UserError("this network is fused already; give the one that build_model or detector.load made.")
