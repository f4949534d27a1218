import json
from pathlib import Path

import numpy as np
import pytest
from experiments.crops import Crops, CropSets
from tool_loading import load_tool

from detector.errors import UserError


def small_sets(_folder: Path, size: int) -> CropSets:
    rng = np.random.default_rng(0)
    crops = Crops(rng.integers(0, 256, (80, 3, size, size), dtype=np.uint8), rng.integers(0, 3, 80))
    return CropSets(crops, crops, ("a", "b", "c"))


def test_the_plan_is_the_papers_seed_by_seed() -> None:
    tool = load_tool("degradation")
    specs = tool.plan(tool.parse_arguments([]))
    assert len(specs) == 12
    assert [s.depth for s in specs] == [56, 56, 20, 20] * 3, "two processes end together"
    assert {(s.kind, s.depth, s.seed) for s in specs} == {
        (kind, depth, seed) for kind in ("plain", "residual") for depth in (20, 56) for seed in (0, 1, 2)
    }
    assert tool.parse_arguments([]).steps == 1500


def test_a_depth_that_no_network_has_stops_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="57 layers"):
        load_tool("degradation").main(["--depths", "57", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # it starts processes
def test_one_command_writes_curves_table_and_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = load_tool("degradation")
    monkeypatch.setattr("experiments.experiment.load_crops", small_sets)
    words = ["--depths", "8", "14", "--seeds", "0", "--steps", "2", "--width", "2", "--processes", "2"]
    assert tool.main([*words, "--output", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"curves.json", "table.md", "degradation.svg"}
    assert len(json.loads((tmp_path / "curves.json").read_text())) == 4
    printed = capsys.readouterr().out
    assert "2 processes of one thread each" in printed
    assert (tmp_path / "table.md").read_text() in printed + "\n"
    assert "seed 0: plain networks" in printed
