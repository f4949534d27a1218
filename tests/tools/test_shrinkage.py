from pathlib import Path

import numpy as np
import pytest
from experiments.cifar_net import make_block
from experiments.crops import Crops, CropSets, with_noise
from experiments.curves import Curve, NetSpec
from tool_loading import load_tool

from detector.model.shrinkage import Shrinkage


def curve(shrinkage: str | None, seed: int, val: float) -> Curve:
    return Curve(NetSpec(20, 8, "identity", seed, shrinkage), [0.5], 0.5, val, 1.0)  # type: ignore[arg-type]


def test_three_networks_for_each_seed() -> None:
    tool = load_tool("shrinkage")
    specs = tool.plan(tool.parse_arguments([]))
    assert sorted((s.seed, s.shrinkage or "") for s in specs) == [
        (seed, kind) for seed in (0, 1, 2) for kind in ("", "channel", "shared")
    ]
    assert {(s.depth, s.shortcut) for s in specs} == {(20, "identity")}


def test_blocks_have_the_detectors_thresholds() -> None:
    shrink = make_block(8, 16, 2, "identity", "shared").shrink
    assert isinstance(shrink, Shrinkage)
    assert (shrink.kind, shrink.reduce.out_features) == ("shared", 4)


def test_noise_belongs_to_the_crops() -> None:
    grey = Crops(np.full((50, 3, 8, 8), 128, np.uint8), np.zeros(50, np.int64))
    first, again = (with_noise(CropSets(grey, grey, ("a",)), 20, seed=1) for _ in range(2))
    assert np.array_equal(first.train.pixels, again.train.pixels)
    assert not np.array_equal(first.train.pixels, first.val.pixels)
    assert first.train.pixels.std() == pytest.approx(20, rel=0.05)
    assert np.array_equal(with_noise(CropSets(grey, grey, ("a",)), 0, seed=1).train.pixels, grey.pixels)


def test_a_gain_is_one_only_with_every_seed() -> None:
    tool = load_tool("shrinkage")
    curves = [curve(None, 0, 0.30), curve(None, 1, 0.20), curve("channel", 0, 0.29), curve("channel", 1, 0.19)]
    assert tool.verdicts([*curves, curve("shared", 0, 0.29), curve("shared", 1, 0.21)]) == [
        "shrinkage channel: lower with 2 of 2 seeds (30.0 → 29.0 %, 20.0 → 19.0 %): a gain",
        "shrinkage shared: lower with 1 of 2 seeds (30.0 → 29.0 %, 20.0 → 21.0 %): neither gain nor loss is shown",
    ]


@pytest.mark.slow  # it starts processes
def test_one_command_writes_curves_and_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    crops = Crops(rng.integers(0, 256, (80, 3, 16, 16), dtype=np.uint8), rng.integers(0, 3, 80))
    monkeypatch.setattr("experiments.experiment.load_crops", lambda *_: CropSets(crops, crops, ("a", "b", "c")))
    words = ["--depth", "8", "--seeds", "0", "--steps", "2", "--width", "2", "--processes", "2"]
    assert load_tool("shrinkage").main([*words, "--output", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"curves.json", "table.md"}
