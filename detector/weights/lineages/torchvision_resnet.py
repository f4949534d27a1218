"""torchvision's ImageNet ResNets ↔ our conv1 … conv5_x: one table of names, nothing else differs.

Their networks want RGB from 0 to 1, normalised (ours from 0 to 255, normalised by the same numbers times 255), and have
a bottleneck's stride in the 3×3: `IMAGENET_MEAN`, `IMAGENET_STD` and `model.backbone.stride_in_1x1=false`.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from detector.config import Config, InputConfig
from detector.errors import UserError
from detector.weights.remap import remap, reverse_channels, translate
from detector.weights.state_layout import conv1_name, has_last_stage, has_thresholds, imagenet_shapes, is_of_resnet

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
# How torchvision's detectors are fed.
DETECTORS_INPUT = InputConfig(
    pixel_mean=IMAGENET_MEAN, pixel_std=IMAGENET_STD, min_size_train=(800,), resize="torchvision", pad_to_multiple=32
)

# Of stages and of what is in a block; ours → theirs, applied in turn as pieces of a name.
BLOCK_RENAMES = (
    (".conv2_x.", ".layer1."),
    (".conv3_x.", ".layer2."),
    (".conv4_x.", ".layer3."),
    (".conv5_x.", ".layer4."),
    (".norm1.", ".bn1."),
    (".norm2.", ".bn2."),
    (".norm3.", ".bn3."),
    (".shortcut.conv.", ".downsample.0."),
    (".shortcut.norm.", ".downsample.1."),
)
RENAMES = (
    (".backbone.body.", "."),
    (".backbone.", "."),
    (".roi_head.conv5_x.", ".layer4."),
    *BLOCK_RENAMES,
)
DROPPED = ("fc.weight", "fc.bias")  # ImageNet's classifier


def is_torchvision_resnet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of torchvision's ResNet."""
    return "conv1.weight" in tensors and "layer1.0.conv1.weight" in tensors


def from_torchvision_resnet(
    tensors: Mapping[str, Tensor], config: Config, where: str, channels: Literal["rgb", "bgr"] = "rgb"
) -> dict[str, Tensor]:
    """Convert an ImageNet ResNet to the backbone and conv5_x that `config` describes.

    Args:
        tensors: its state dict, float32. `layer4` may be missing as a whole: conv5_x is then missing from the result,
            and starts fresh; so it does if the config gives it a group norm. `fc` is dropped.
        config: only `model.backbone` is read.
        where: the file's name, for messages.
        channels: the order that the first convolution expects; converted Caffe weights have bgr.

    Raises:
        UserError: every tensor that is left over, missing or of another shape; or norms without place for statistics.
    """
    last_stage = [name for name in tensors if name.startswith("layer4.")]
    shapes = imagenet_shapes(config, bool(last_stage), where)
    table: dict[str, str | None] = {theirs: ours for ours, theirs in translate(shapes, RENAMES).items()}
    dropped = DROPPED if has_last_stage(shapes) else (*DROPPED, *last_stage)
    state = remap(tensors, table | dict.fromkeys(dropped), shapes, where)
    if channels == "bgr":
        state[conv1_name(state)] = reverse_channels(state[conv1_name(state)])
    return state


def to_torchvision_resnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone and conv5_x of our state dict under torchvision's names; `fc` is for the user to add.

    `torchvision.models.resnet101().load_state_dict(..., strict=False)` takes it (missing: `fc` and the counters of
    batches). The rest of our detector has no place there.

    Raises:
        UserError: norms without statistics, which are group norms; torchvision's ResNets have batch norms. Or
            thresholds of residual shrinkage, which they do not have.
    """
    names = [name for name in state_dict if is_of_resnet(name)]
    if has_thresholds(names):
        raise UserError("model.backbone.shrinkage: torchvision's ResNets have no place for its thresholds.")
    norms = [name.removesuffix("bias") for name in names if name.endswith(".bias")]
    grouped = [norm for norm in norms if norm + "running_mean" not in state_dict]
    if grouped:
        raise UserError(f"{grouped[0].rstrip('.')} is not a batch norm, and torchvision's ResNets have only those.")
    return {theirs: state_dict[ours] for ours, theirs in translate(names, RENAMES).items()}
