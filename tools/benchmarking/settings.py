"""What a run of the benchmark measures."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from detector.structures import Size


@dataclass(frozen=True)
class Settings:
    """Of all parts.

    device: that the networks run on. picture: a file, or None for a rendered one; size: that it gets. depths: of the
    ResNet. proposals: RoIs per image at test time. batches: pictures at once. threads: of PyTorch on the CPU. rounds:
    turns of every form. forms: names of the peer's forms and of ours beyond the fast ones, see `forms.FORMS`.
    num_classes: K. rois: per picture in training. annotations, images: a COCO file and its folder for the loading part,
    None for pictures made of the one. quick: small problems in all parts.
    """

    device: torch.device
    picture: Path | None = None
    size: Size = (800, 1216)
    depths: tuple[int, ...] = (101,)
    proposals: tuple[int, ...] = (300, 1000)
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    rounds: int = 5
    forms: tuple[str, ...] = ("eager", "channels-last", "bf16-channels-last", "bf16-compiled")
    num_classes: int = 80
    rois: int = 512
    annotations: Path | None = None
    images: Path | None = None
    quick: bool = False

    @property
    def repeats(self) -> int:
        """Calls that are timed together: on a GPU one is too short."""
        return 10 if self.device.type == "cuda" and not self.quick else 1

    def threads_label(self, threads: int) -> dict[str, int]:
        """For a table; on a GPU they do not matter."""
        return {"threads": threads} if self.device.type == "cpu" else {}


QUICK_SIZE = (128, 160)


def make_quick(settings: Settings) -> Settings:
    """The same parts on problems of seconds, to see that the tool works; its numbers mean nothing."""
    return replace(
        settings,
        size=QUICK_SIZE,
        depths=(50,),
        proposals=(60,),
        batches=settings.batches[:1],
        threads=settings.threads[:1],
        rounds=1,
        forms=("eager", "bf16-channels-last"),
        num_classes=20,
        rois=32,
        quick=True,
    )
