import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from experiments.crops import Crops, CropSets, cut_out
from experiments.curves import BATCH, Curve, NetSpec, batches, error, inputs, train_net
from experiments.figure import draw
from experiments.table import error_table, verdicts
from torch import nn


def curve(kind: str, depth: int, seed: int, final: float) -> Curve:
    spec = NetSpec(depth, 8, "none" if kind == "plain" else "identity", seed)
    return Curve(spec, [0.8, 0.5, final], final, final / 2, 1.0)


def test_crops_are_the_square_around_a_box_moved_into_the_picture() -> None:
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[2:6, 8:12] = 200
    whole = cut_out(picture, np.array([8.0, 3.0, 12.0, 5.0]), 2)
    assert (whole == 200).all(), "4 wide and 2 high: the square of 4, which lies at the right edge"
    assert cut_out(picture, np.array([0.0, 0.0, 12.0, 8.0]), 4).shape == (4, 4, 3), "no wider than the picture is high"


def test_every_picture_comes_once_before_any_comes_again() -> None:
    drawn = torch.cat(list(batches(100, 25, seed=1)))
    assert drawn.shape == (25 * BATCH,)
    assert sorted(drawn[:100].tolist()) == sorted(drawn[100:200].tolist()) == list(range(100))
    assert not torch.equal(drawn[:100], drawn[100:200])
    assert not torch.equal(drawn, torch.cat(list(batches(100, 25, seed=2))))


def test_input_has_mean_0_and_deviation_1_over_what_is_trained_on() -> None:
    crops = Crops(np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8), np.zeros(20, np.int64))
    scaled = inputs(crops, crops)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std((0, 2, 3), correction=0), torch.ones(3))


def test_error_is_the_share_that_is_wrong() -> None:
    pixels = torch.eye(4).view(4, 4, 1, 1)
    assert error(nn.Flatten(), pixels, torch.tensor([0, 1, 2, 0])) == 0.25


def test_training_is_a_function_of_the_seed_and_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 128)
    pixels = (rng.integers(0, 100, (128, 3, 8, 8)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    data = CropSets(Crops(pixels, labels), Crops(pixels[:16], labels[:16]), ("dark", "bright"))
    ticks: list[int] = []
    first = train_net(NetSpec(8, 2, "identity", 0), ticks.append, data, 60)
    assert ticks == [50, 10]
    assert len(first.training) == 2
    assert first.training[1] < first.training[0]
    again = train_net(NetSpec(8, 2, "identity", 0), ticks.append, data, 60)
    assert dataclasses.replace(again, seconds=first.seconds) == first
    assert train_net(NetSpec(8, 2, "identity", 1), ticks.append, data, 60).training != first.training


CURVES = [curve("plain", 20, 0, 0.04), curve("plain", 56, 0, 0.37), curve("residual", 20, 0, 0.01)]
DEEP = curve("residual", 56, 0, 0.029)


def test_the_table_by_hand() -> None:
    curves = [*CURVES, curve("plain", 20, 1, 0.06)]
    lines = error_table(curves, lambda c: f"{c.spec.kind} {c.spec.depth}").split("\n")
    assert lines[0] == "| network | training, seed 0 | training, seed 1 | mean | val, seed 0 | val, seed 1 | mean |"
    assert lines[2] == "| plain 20 | 4.0 | 6.0 | 5.0 | 2.0 | 3.0 | 2.5 |"
    assert lines[3] == "| plain 56 | 37.0 |  | 37.0 | 18.5 |  | 18.5 |"


@pytest.mark.parametrize(("final", "outcome"), [(0.029, "within 2 points when deeper"), (0.031, "worse when deeper")])
def test_a_deeper_residual_network_may_be_two_points_worse(final: float, outcome: str) -> None:
    assert verdicts([*CURVES, curve("residual", 56, 0, final)]) == [
        "seed 0: plain networks worse when deeper: 20 layers 4.0 %, 56 layers 37.0 %",
        f"seed 0: residual networks {outcome}: 20 layers 1.0 %, 56 layers {100 * final:.1f} %",
    ]


def test_a_plain_network_that_is_not_worse_is_said_not_to_be() -> None:
    same = [curve("plain", 20, 0, 0.04), curve("plain", 56, 0, 0.04)]
    assert verdicts(same) == ["seed 0: plain networks not worse when deeper: 20 layers 4.0 %, 56 layers 4.0 %"]


def test_the_figure_has_a_line_for_each_seed_and_one_for_their_mean() -> None:
    seeds = [*CURVES, DEEP, *(dataclasses.replace(c, spec=dataclasses.replace(c.spec, seed=1)) for c in CURVES)]
    root = ElementTree.fromstring(draw(seeds, 150, "below & <above>"))
    lines = [p for p in root.iter() if p.get("stroke-linejoin") == "round"]
    assert len(lines) == len(seeds) + 4
    assert "below & <above>" in "".join(root.itertext())
    points = [float(number) for word in (lines[0].get("d") or "").split() for number in [word.lstrip("ML")]]
    assert len(points) == 2 * 3
    across = points[0::2]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.11), "points are equally far apart"
