"""The plan of a run: what the benchmark measures, on what."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarking.kept_memory import Memory
from benchmarking.peer import Kind
from detector.structures import Size


@dataclass(frozen=True)
class Settings:
    """The settings of all parts.

    device: that the networks run on. kind: of model. picture: a file, or None for a rendered one; size: that it gets.
    depths: of the ResNet. proposals: RoIs per image at test time. batches: pictures at once. threads: of PyTorch on the
    CPU. rounds: turns of every form. memory: that this process has, see `kept_memory`. forms: names of the peer's forms
    and of ours beyond the fast ones, see `forms.FORMS`.
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
    memory: Memory = "returned"
    forms: tuple[str, ...] = ("eager", "channels-last", "bf16-channels-last", "bf16-compiled")
    num_classes: int = 80
    rois: int = 512
    annotations: Path | None = None
    images: Path | None = None
    quick: bool = False
    kind: Kind = "c4"

    @property
    def measures_peaks(self) -> bool:
        """Whether peaks of memory are measured, once in a run: they are of processes that give it back."""
        return self.memory == "returned"

    @property
    def repeats(self) -> int:
        """Calls that are timed together: on a GPU one is too short."""
        return 10 if self.device.type == "cuda" and not self.quick else 1

    def run_label(self, threads: int) -> dict[str, str | int | float | None]:
        """How a row of a table was measured: on so many threads, and with which memory; on a GPU neither matters."""
        return {"threads": threads, "memory": self.memory} if self.device.type == "cpu" else {}


QUICK_SIZE = (128, 160)
QUICK_PYRAMID = (320, 416)  # on less conv5_x has too few cells for statistics, and rounding grows through it


def make_quick(settings: Settings) -> Settings:
    """The same parts on problems of seconds, to see that the tool works; its numbers mean nothing."""
    return replace(
        settings,
        size=QUICK_SIZE if settings.kind == "c4" else QUICK_PYRAMID,
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
