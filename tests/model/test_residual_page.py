"""The numbers of docs/residual.md, from the blocks themselves."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.model.blocks import BasicBlock, Bottleneck, Projection
from detector.model.resnet import BLOCKS_PER_STAGE, ResNetC4, ResNetShape
from detector.model.shrinkage import Shrinkage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "residual.md"


def weights(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def convolutions(*modules: nn.Module) -> int:
    """Layers on the main path."""
    names = [name for module in modules for name, child in module.named_modules() if isinstance(child, nn.Conv2d)]
    return sum("shortcut" not in name for name in names)


def stages(depth: int, **shape: object) -> list[nn.Sequential]:
    with torch.device("meta"):
        return [ResNetShape(depth, **shape).make_stage(stage) for stage in (2, 3, 4, 5)]  # type: ignore[arg-type]


def numbers_of_blocks() -> dict[str, str]:
    with torch.device("meta"):
        basic = weights(BasicBlock(256, 256, 1, "frozen_batch"))
        bottleneck = weights(Bottleneck(256, 64, 1, "frozen_batch", True))
        projection = weights(Projection(256, 256, 1, "frozen_batch"))
    return {
        "basic": f"| 3×3, 3×3 | {basic:,} |",
        "bottleneck": f"1×1 to 256 | {bottleneck:,} |",
        "ratio": f"{basic / bottleneck:.2f} times the weights",
        "a projection in a bottleneck": f"{projection:,} weights beside the {bottleneck:,}",
        "both": f"{(bottleneck + projection) / bottleneck:.2f} times as many in all",
    }


def numbers_of_networks() -> dict[str, str]:
    of = {depth: stages(depth) for depth in (34, 50, 101)}
    blocks = {depth: sum(map(len, of[depth])) for depth in of}
    inside = {depth: convolutions(*of[depth]) for depth in of}
    more = [len(a) - len(b) for a, b in zip(of[101], of[50], strict=True)]
    assert [more[0], more[1], more[3]] == [0, 0, 0]
    with torch.device("meta"):
        shared = convolutions(ResNetC4(ResNetShape(101)))
    written = {d: " + ".join(map(str, BLOCKS_PER_STAGE[d])) for d in of}
    return {
        "101": f"{written[101]} = {blocks[101]} bottlenecks of 3 convolutions: 1 + {inside[101]} + 1",
        "50": f"{written[50]} = {blocks[50]} of\nthem: 1 + {inside[50]} + 1",
        "more": f"{more[2]} bottlenecks, {inside[101] - inside[50]} layers, all in conv4_x",
        "34": f"ResNet-34 has {blocks[34]} blocks too, of\ntwo convolutions: 1 + {inside[34]} + 1",
        "shared": f"see the picture once ({shared} layers of ResNet-101)",
        "of each region": f"conv5_x with its {convolutions(of[101][3])}\nlayers",
    }


def numbers_of_shortcuts() -> dict[str, str]:
    shortcuts = [block.shortcut for stage in stages(50) for block in stage]
    projections = [s for s in shortcuts if isinstance(s, Projection)]
    widths = [256] * 2 + [512] * 3 + [1024] * 5 + [2048] * 2  # of the blocks after the first of each stage
    assert len(projections) + len(widths) == len(shortcuts)
    return {
        "B": f"{weights(*projections):,} weights in the {'four' if len(projections) == 4 else '?'} projections",
        "C": f"{sum(width**2 for width in widths):,} weights more in ResNet-50",
    }


def numbers_of_shrinkage() -> dict[str, str]:
    shrinking = stages(50, norm="batch", shrinkage="channel")
    layers = [m for stage in shrinking for m in stage.modules() if isinstance(m, Shrinkage)]
    added = sum(weights(s.reduce) + s.expand.weight.numel() for s in layers)
    full = sum(2 * s.reduce.in_features**2 for s in layers)
    with torch.device("meta"):
        body = weights(ResNetC4(ResNetShape(50, norm="batch")), *stages(50, norm="batch")[3:])
    return {"added": f"adds {added:,} weights", "full": f"would add {full:,} to its {body:,}"}


@pytest.mark.parametrize(
    "numbers", [numbers_of_blocks, numbers_of_networks, numbers_of_shortcuts, numbers_of_shrinkage]
)
def test_the_pages_numbers_are_those_of_the_code(numbers: object) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert callable(numbers)
    missing = {what: text for what, text in numbers().items() if text not in page}
    assert missing == {}


def test_what_the_page_links_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) >= 3
    assert [link for link in links if not link.startswith("http") and not (PAGE.parent / link).exists()] == []
