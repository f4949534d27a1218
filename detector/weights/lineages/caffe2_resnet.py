"""Caffe2's names for ResNets (`res4_0_branch2a_w`), as in MSRA's R-50.pkl and R-101.pkl, as our conv1 … conv5_x.

Their networks want BGR from 0 to 255 less the mean (the standard deviation is in the first convolution) and have a
bottleneck's stride in the 1×1. Here the first convolution is turned to RGB.
"""

from collections.abc import Mapping

from torch import Tensor

from detector.config import Config
from detector.weights.remap import fill_folded_statistics, remap, reverse_channels, translate
from detector.weights.state_layout import conv1_name, has_last_stage, imagenet_shapes

# Ours → theirs, applied in turn as pieces of a name; then dots become underscores.
RENAMES = (
    (".backbone.body.", ".backbone."),
    (".backbone.conv1.weight", ".conv1.w"),
    (".backbone.norm1.", ".res.conv1.bn."),
    (".backbone.", "."),
    (".roi_head.", "."),
    (".conv5_x.", ".res5."),
    (".conv2_x.", ".res2."),
    (".conv3_x.", ".res3."),
    (".conv4_x.", ".res4."),
    (".shortcut.conv.weight", ".branch1.w"),
    (".shortcut.norm.", ".branch1.bn."),
    (".norm1.", ".branch2a.bn."),
    (".norm2.", ".branch2b.bn."),
    (".norm3.", ".branch2c.bn."),
    (".conv1.weight", ".branch2a.w"),
    (".conv2.weight", ".branch2b.w"),
    (".conv3.weight", ".branch2c.w"),
)
# The norm's affine map: with statistics beside it, and with statistics folded in (Detectron-v1's files).
AFFINE = {"_bn_weight": "_bn_gamma", "_bn_bias": "_bn_beta"}
FOLDED_AFFINE = {"_bn_weight": "_bn_s", "_bn_bias": "_bn_b"}

# ImageNet's classifier, and a bias of the first convolution (zero) that the norm after it makes idle.
DROPPED = ("fc1000_w", "fc1000_b", "conv1_b")
MOMENTUM = "_momentum"  # of Caffe2's optimizer


def is_caffe2(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have the names that Caffe2 gives those of a ResNet."""
    return "conv1_w" in tensors and "res2_0_branch2a_w" in tensors


def from_caffe2(tensors: Mapping[str, Tensor], config: Config, where: str) -> dict[str, Tensor]:
    """Convert a Caffe2 ResNet to the backbone and conv5_x that `config` describes.

    Args:
        tensors: by their names, float32. The classifier and optimizer momenta are dropped.
        config: only `model.backbone` is read.
        where: the file's name, for messages.

    Raises:
        UserError: every tensor that is left over, missing or of another shape; or norms without place for statistics.
    """
    last_stage = [name for name in tensors if name.startswith("res5_")]
    shapes = imagenet_shapes(config, bool(last_stage), where)
    affine = FOLDED_AFFINE if "res_conv1_bn_s" in tensors else AFFINE
    table: dict[str, str | None] = {}
    for ours, theirs in translate(shapes, RENAMES).items():
        name = theirs.replace(".", "_")
        for ending, other in affine.items():
            name = name.removesuffix(ending) + other if name.endswith(ending) else name
        table[name] = ours
    table |= dict.fromkeys(DROPPED) | dict.fromkeys(name for name in tensors if name.endswith(MOMENTUM))
    if not has_last_stage(shapes):
        table |= dict.fromkeys(last_stage)
    state = remap(fill_folded_statistics(tensors, table, shapes), table, shapes, where)
    conv1 = conv1_name(state)
    return state | {conv1: reverse_channels(state[conv1])}
