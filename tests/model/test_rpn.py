import pytest
import torch

from detector.model.anchors import AnchorGenerator
from detector.model.rpn import RPNHead, flatten_head
from detector.structures import FeatureMap


def test_maps_become_rows_in_the_order_of_the_anchors() -> None:
    # Each entry says where it was: image, channel, row and column as digits.
    def numbered(channels: int) -> torch.Tensor:
        n, c, y, x = torch.meshgrid(
            torch.arange(2), torch.arange(channels), torch.arange(2), torch.arange(3), indexing="ij"
        )
        return (n * 1000 + c * 100 + y * 10 + x).float()

    logits, deltas = flatten_head(numbered(2), numbered(8))
    assert logits.shape == (2, 12)
    assert deltas.shape == (2, 12, 4)
    # Row slowest, then column, then anchor.
    assert logits[1].tolist() == [1000 + a * 100 + y * 10 + x for y in range(2) for x in range(3) for a in range(2)]
    # The four deltas of an anchor are neighbouring channels: a·4 + k.
    assert deltas[0, 0].tolist() == [0, 100, 200, 300]
    assert deltas[0, 1].tolist() == [400, 500, 600, 700]
    assert deltas[1, 11].tolist() == [1412, 1512, 1612, 1712]


def test_rows_agree_with_the_anchor_generator_about_the_cell() -> None:
    anchors = AnchorGenerator((16, 32), (1.0,))
    head = RPNHead(in_channels=1, channels=1, anchors_per_cell=anchors.per_cell)
    with torch.no_grad():
        for layer in (head.conv, head.objectness, head.anchor_deltas):
            layer.weight.zero_()
        head.conv.weight[0, 0, 1, 1] = 1
        head.objectness.weight[1, 0] = 1  # only the second anchor looks
    values = torch.zeros(1, 1, 4, 5)
    values[0, 0, 2, 3] = 9
    features = (FeatureMap(values, 16),)
    ((logits, _),) = head(features)
    best = anchors(features)[0].all()[logits[0].argmax()]
    assert best.tolist() == [3 * 16 - 16, 2 * 16 - 16, 3 * 16 + 16, 2 * 16 + 16]


def test_shapes_types_and_batches() -> None:
    head = RPNHead(in_channels=8, channels=6, anchors_per_cell=3)
    ((logits, deltas),) = head((FeatureMap(torch.randn(2, 8, 4, 5), 16),))
    assert (logits.shape, deltas.shape) == ((2, 60), (2, 60, 4))
    ((logits, deltas),) = head.bfloat16()((FeatureMap(torch.randn(2, 8, 4, 5, dtype=torch.bfloat16), 16),))
    assert logits.dtype == deltas.dtype == torch.float32, "thresholds and coordinates want full precision"


def test_several_maps_and_the_anchors_chosen_from_them() -> None:
    head = RPNHead(in_channels=8, channels=6, anchors_per_cell=3)
    features = (FeatureMap(torch.randn(2, 8, 4, 5), 8), FeatureMap(torch.randn(2, 8, 2, 3), 16))
    fine, coarse = head(features)
    assert (fine.logits.shape, coarse.logits.shape) == ((2, 60), (2, 18))
    # The coarse map's anchors are numbered after the fine one's.
    logits, deltas = head.at(features, [torch.tensor([59, 60]), torch.tensor([77])])
    assert torch.equal(logits, torch.stack((fine.logits[0, 59], coarse.logits[0, 0], coarse.logits[1, 17])))
    assert torch.equal(deltas, torch.stack((fine.deltas[0, 59], coarse.deltas[0, 0], coarse.deltas[1, 17])))


def test_layers_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    head = RPNHead(in_channels=64, channels=64, anchors_per_cell=15)
    for layer in (head.conv, head.objectness, head.anchor_deltas):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert layer.bias is not None
        assert layer.bias.abs().max() == 0
    assert sorted(head.state_dict()) == [
        f"{layer}.{kind}" for layer in ("anchor_deltas", "conv", "objectness") for kind in ("bias", "weight")
    ]
