"""A ResNet alone under detectron2's names (`stem.conv1.weight`, `res2.0.conv1.norm.bias`), as torchvision's names.

So detectron2 has a backbone of its own, and so its converter writes torchvision's ImageNet networks. The tensors are
the same, one to one; neither names nor tensors say in which order conv1 expects the channels.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# Theirs → torchvision's, applied in turn.
_RENAMES = (
    (re.compile(r"^stem\.fc\.|^linear\."), "fc."),  # of the converter; of detectron2's own network with classes
    (re.compile(r"^stem\."), ""),
    *((re.compile(rf"^res{stage + 1}\."), f"layer{stage}.") for stage in range(1, 5)),
    (re.compile(r"\bshortcut\.norm\."), "downsample.1."),
    (re.compile(r"\bshortcut\."), "downsample.0."),
    (re.compile(r"\bconv([123])\.norm\."), r"bn\1."),
)


def is_detectron2_resnet(names: Mapping[str, object]) -> bool:
    """Whether the tensors have the names that detectron2 gives those of a ResNet."""
    return "stem.conv1.weight" in names and "res2.0.conv1.weight" in names


def with_torchvision_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a ResNet under torchvision's names; those of anything else as they are."""
    if not is_detectron2_resnet(tensors):
        return dict(tensors)
    return {_renamed(name): tensor for name, tensor in tensors.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name
