import pytest
import torch
from torchvision.ops.poolers import LevelMapper

from detector.model.roi_pooling import LevelRule, PoolingKind, RoIPooling, indexed_rois, roi_levels
from detector.structures import FeatureMap, Features


def one_map(values: torch.Tensor, stride: int = 16) -> Features:
    return (FeatureMap(values, stride),)


def ramp(height: int, width: int) -> torch.Tensor:
    """Two channels, of which every cell holds its column and its row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y)).float()[None]


@pytest.mark.parametrize(("aligned", "shift"), [(True, 0.5), (False, 0.0)])
def test_roi_align_samples_at_the_centres_of_its_bins(aligned: bool, shift: float) -> None:
    pooling = RoIPooling("align", size=4, aligned=aligned)
    x1, y1, x2, y2 = 40.0, 64.0, 104.0, 192.0
    pooled = pooling(one_map(ramp(20, 20)), [torch.tensor([[x1, y1, x2, y2]])])
    # The mean of a linear map over a bin is its value in the middle; cell i lies at (i + ½) · 16 pixels when aligned.
    bins = (torch.arange(4) + 0.5) / 4
    torch.testing.assert_close(pooled[0, 0, 0], (x1 + bins * (x2 - x1)) / 16 - shift)
    torch.testing.assert_close(pooled[0, 1, :, 0], (y1 + bins * (y2 - y1)) / 16 - shift)


def test_roi_align_averages_a_sample_for_each_cell_that_a_bin_spans() -> None:
    features = torch.zeros(1, 1, 8, 8)
    features[0, 0, 3, 3] = 8.0
    boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]])]
    # One bin over 8 × 8 cells: 64 samples at the cells' centres, of which one meets the only value.
    assert RoIPooling("align", size=1)(one_map(features, 1), boxes).item() == pytest.approx(8 / 64)
    # Two samples an axis lie at 1.5 and 5.5 cells, where there is nothing.
    assert RoIPooling("align", size=1, sampling_ratio=2)(one_map(features, 1), boxes).item() == 0


def test_roi_pool_takes_the_maximum_of_whole_cells() -> None:
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = RoIPooling("pool", size=2)(one_map(features), [torch.tensor([[0.0, 0.0, 48.0, 48.0]])])
    assert pooled.tolist() == [[[[5.0, 7.0], [13.0, 15.0]]]]


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_rois_come_from_their_own_image(kind: PoolingKind) -> None:
    features = torch.stack((torch.full((1, 6, 6), 1.0), torch.full((1, 6, 6), 2.0), torch.full((1, 6, 6), 3.0)))
    box = torch.tensor([[16.0, 16.0, 64.0, 64.0]])
    pooled = RoIPooling(kind, size=2)(one_map(features), [box, torch.zeros(0, 4), box.repeat(2, 1)])
    assert pooled.shape == (3, 1, 2, 2)
    assert pooled.mean(dim=(1, 2, 3)).tolist() == [1.0, 3.0, 3.0]


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_no_rois(kind: PoolingKind) -> None:
    pooled = RoIPooling(kind, size=14)(one_map(torch.zeros(2, 5, 6, 6)), [torch.zeros(0, 4), torch.zeros(0, 4)])
    assert pooled.shape == (0, 5, 14, 14)


def test_half_precision_features_do_not_move_the_rois() -> None:
    features, boxes = ramp(80, 80), [torch.tensor([[1001.0, 1001.0, 1101.0, 1101.0]])]
    pooling = RoIPooling("align", size=2)
    exact = pooling(one_map(features), boxes)
    half = pooling(one_map(features.bfloat16()), boxes)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, exact.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pooling(one_map(features.bfloat16()), boxes), exact.bfloat16())


def test_gradients_reach_the_features() -> None:
    features = torch.ones(1, 1, 6, 6, requires_grad=True)
    RoIPooling("align", size=2)(one_map(features), [torch.tensor([[16.0, 16.0, 64.0, 64.0]])]).sum().backward()
    assert features.grad is not None
    assert features.grad.sum().item() == pytest.approx(4.0), "each of four bins hands on its whole gradient"


def test_indexed_rois() -> None:
    first, second = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[5.0, 6.0, 7.0, 8.0]])
    rois = indexed_rois([first, torch.zeros(0, 4), second])
    assert rois.tolist() == [[0.0, 1, 2, 3, 4], [2.0, 5, 6, 7, 8]]


@pytest.mark.parametrize("rule", ["detectron2", "torchvision", "mmdetection"])
def test_levels_begin_at_112_224_and_448_pixels(rule: LevelRule) -> None:
    sides = [0.0, 5.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 2000.0]
    rois = torch.tensor([[0.0, 10.0, 20.0, 10.0 + side, 20.0 + side] for side in sides])
    assert roi_levels(rois, 4, rule).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    # Only the area counts.
    assert roi_levels(torch.tensor([[0.0, 0.0, 0.0, 56.0, 224.0]]), 4, rule).tolist() == [1]


def test_the_lineages_part_just_below_an_edge() -> None:
    """torchvision adds 1e-6 to the logarithm, so a side a millionth short is not; detectron2 adds next to nothing."""
    side = 224.0 * 2 ** (-5e-7)
    rois = torch.tensor([[0.0, 0.0, 0.0, side, side]])
    found = {rule: int(roi_levels(rois, 4, rule)) for rule in ("detectron2", "torchvision", "mmdetection")}
    assert found == {"detectron2": 1, "torchvision": 2, "mmdetection": 1}
    # mmdetection's 1e-6 stands inside, at s/56: it is worth less than that to the logarithm.
    side = 224.0 * (1 - 1.2e-7)
    rois = torch.tensor([[0.0, 0.0, 0.0, side, side]])
    assert int(roi_levels(rois, 4, "mmdetection")) == 2
    assert int(roi_levels(rois, 4, "detectron2")) == 1


def test_a_region_comes_from_the_level_that_suits_it_and_keeps_its_place() -> None:
    features = tuple(FeatureMap(torch.full((2, 1, 1024 // s, 1024 // s), float(s)), s) for s in (4, 8, 16, 32, 64))
    pooling = RoIPooling("align", size=2, level_rule="detectron2")
    boxes = torch.tensor([[0.0, 0, 500, 500], [0, 0, 50, 50], [0, 0, 300, 300], [0, 0, 150, 150]])
    pooled = pooling(features, [boxes, boxes[:1]])
    assert pooled.amax(dim=(1, 2, 3)).tolist() == [32, 4, 16, 8, 32]
    assert pooling(features, [boxes[:0], boxes[:0]]).shape == (0, 1, 2, 2)


def test_torchvisions_levels_are_its_own() -> None:
    """Near the edges of levels, and anywhere."""
    near = [edge + step * 1e-5 for edge in (112, 224, 448) for step in range(-40, 40)]
    generator = torch.Generator().manual_seed(0)
    sides = near + (torch.rand(500, generator=generator) * 900).tolist()
    rois = torch.tensor([[0.0, 0.0, 0.0, side, side] for side in sides])
    assert torch.equal(roi_levels(rois, 4, "torchvision"), LevelMapper(2, 5)([rois[:, 1:]]))
