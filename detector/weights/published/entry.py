"""What is known of one published file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Published:
    """One published file.

    url: where its authors serve it. checksum: algorithm and beginning of the hexadecimal digest, as they publish it, or
    None where they do not. kind: whose names and conventions the tensors have. megabytes: size in units of 2²⁰ bytes as
    they state it, else None. settings: of a detector of detectron2 its settings beyond the defaults, of one of
    mmdetection its config. ap: COCO box AP on val2017, in percent. network: what it is, for people; None: a ResNet.
    """

    url: str
    checksum: tuple[Literal["md5", "sha256"], str] | None
    kind: Literal["detectron2", "mmdetection", "torchvision", "caffe2"]
    depth: int
    megabytes: float | None = None
    settings: Mapping[str, Any] | None = None
    ap: float | None = None
    network: str | None = None

    @property
    def is_detector(self) -> bool:
        """Whether it detects; else it is an ImageNet network to start a backbone from."""
        return self.settings is not None or self.ap is not None

    @property
    def description(self) -> str:
        """`ResNet-50-FPN`, of a backbone `ResNet-50 backbone`."""
        return self.network or f"ResNet-{self.depth} backbone"
