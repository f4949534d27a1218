"""The region proposal network: one convolution for objectness and deltas, and anchors only where they are wanted."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.fast.convolution import Execution, FusedConv
from detector.fast.folding import fuse_conv
from detector.model.anchors import AnchorGenerator
from detector.model.proposals import ProposalSettings, refine_proposals
from detector.model.rpn import RPNHead
from detector.structures import Proposals, Size


class FusedRPN(nn.Module):
    """Features to proposals.

    Args:
        rpn: the head.
        anchors: what it scores.
        settings: how many proposals.
        execution: type and kernels.
    """

    def __init__(
        self, rpn: RPNHead, anchors: AnchorGenerator, settings: ProposalSettings, execution: Execution
    ) -> None:
        super().__init__()
        self.anchors = copy.deepcopy(anchors).float()
        self.settings = settings
        self.execution = execution
        self.conv = fuse_conv(rpn.conv, None, True, execution)
        # In float32 or better even in a bfloat16 network: it is cheap, and equal logits would be ordered by chance.
        self.precise = Execution(execution.precision, execution.onednn)
        layers = (rpn.objectness, rpn.anchor_deltas)
        weight = torch.cat([layer.weight.detach() for layer in layers])
        bias = torch.cat([layer.bias.detach() for layer in layers if layer.bias is not None])
        self.head = FusedConv(weight, bias, 1, 0, False, self.precise)

    def forward(self, features: Tensor, sizes: Sequence[Size]) -> list[Proposals]:
        """[N, C, H', W'] channels-last to N `Proposals`, as `FasterRCNN.propose`."""
        hidden = self.conv(self.execution.channels_last(features))
        outputs = self.head(self.precise.channels_last(hidden)).permute(0, 2, 3, 1).float()
        a = self.anchors.per_cell
        logits = outputs[..., :a].flatten(1)  # [N, H', W', A] -> [N, H'·W'·A]
        deltas = outputs[..., a:].unflatten(3, (a, 4)).flatten(1, 3)  # -> [N, H'·W'·A, 4]
        return [
            self._propose(image_logits, image_deltas, features.shape[3], size)
            for image_logits, image_deltas, size in zip(logits, deltas, sizes, strict=True)
        ]

    def _propose(self, logits: Tensor, deltas: Tensor, width: int, size: Size) -> Proposals:
        logits, chosen = logits.topk(min(self.settings.pre_nms_top_n, logits.shape[0]))
        return refine_proposals(logits, deltas[chosen], self.anchors.at(chosen, width), size, self.settings)
