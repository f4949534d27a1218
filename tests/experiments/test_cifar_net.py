import pytest
import torch
from experiments.cifar_net import CifarNet, NoShortcut, PaddedIdentity, blocks_per_stage, make_block
from torch import nn

from detector.errors import UserError
from detector.model.blocks import Projection


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_a_network_has_as_many_layers_as_its_name_says(depth: int) -> None:
    net = CifarNet(depth, 4, 6, "identity")
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in net.modules()) == depth
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 6)


def test_a_depth_that_no_network_has_is_refused() -> None:
    with pytest.raises(UserError, match="21 layers: networks of this form have 6n"):
        blocks_per_stage(21)


def test_shortcuts_without_weights_cost_none() -> None:
    """The paper compares plain and residual networks of equally many parameters (§4.2)."""
    weights = {
        kind: sum(p.numel() for p in CifarNet(8, 4, 6, kind).parameters())
        for kind in ("none", "identity", "projection")
    }
    assert weights["none"] == weights["identity"]
    assert weights["projection"] == weights["none"] + (4 * 8 + 2 * 8) + (8 * 16 + 2 * 16), "two 1×1 and their norms"


def test_the_padded_identity_by_hand() -> None:
    x = torch.arange(1.0, 10).view(1, 1, 3, 3)
    assert PaddedIdentity(2, 2)(x).tolist() == [[[[1, 3], [7, 9]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]]


def test_a_plain_block_is_a_residual_one_without_its_sum() -> None:
    torch.manual_seed(0)
    plain, residual = make_block(4, 4, 1, "none"), make_block(4, 4, 1, "identity")
    residual.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 6, 6)
    branch = plain.norm2(plain.conv2(plain.norm1(plain.conv1(x)).relu()))
    assert torch.equal(plain(x), branch.relu())
    assert torch.equal(residual(x), (branch + x).relu())


def test_kinds_of_shortcut_where_the_shape_changes() -> None:
    kinds = {kind: type(make_block(4, 8, 2, kind).shortcut) for kind in ("none", "identity", "projection")}
    assert kinds == {"none": NoShortcut, "identity": PaddedIdentity, "projection": Projection}
    assert isinstance(make_block(4, 4, 1, "identity").shortcut, nn.Identity)
