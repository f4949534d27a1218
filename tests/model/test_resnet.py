"""ResNets: published facts, equality with torchvision's, norms and freezing."""

import math
import re

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detector.model.blocks import BasicBlock, Bottleneck, FrozenBatchNorm2d, Projection, make_norm
from detector.model.resnet import BLOCKS_PER_STAGE, ResNetC4, ResNetShape

DEPTHS = (18, 34, 50, 101, 152)
# Of torchvision's documentation, with 1000 classes.
PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


class Classifier(nn.Module):
    """A whole ResNet, put together from the detector's backbone and its per-region stage."""

    def __init__(self, shape: ResNetShape, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = ResNetC4(shape)
        self.conv5_x = shape.make_stage(5)
        self.fc = nn.Linear(shape.stage_channels(5), num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.fc(self.conv5_x(self.backbone(pixels)[0].values).mean(dim=(2, 3)))


def our_name(name: str) -> str:
    """The name that a torchvision ResNet's entry has in a `Classifier`."""
    name = name.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
    name = re.sub(r"\bbn(\d)", r"norm\1", name)
    if name.startswith("fc."):
        return name
    name = re.sub(r"^layer(\d)", lambda m: f"conv{int(m[1]) + 1}_x", name)
    return name if name.startswith("conv5_x") else f"backbone.{name}"


def parameter_count(*modules: nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


# Published facts


def test_a_bottleneck_has_a_seventeenth_of_the_weights_of_two_3x3_convolutions() -> None:
    bottleneck = Bottleneck(256, 64, stride=1, norm="frozen_batch", stride_in_1x1=True)
    basic = BasicBlock(256, 256, stride=1, norm="frozen_batch")
    assert isinstance(bottleneck.shortcut, nn.Identity)
    assert parameter_count(bottleneck) == 69_632
    assert parameter_count(basic) == 1_179_648
    assert parameter_count(basic) / parameter_count(bottleneck) == pytest.approx(16.94, abs=0.005)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_resnet_is_named_after_its_layers_on_the_main_path(depth: int) -> None:
    shape = ResNetShape(depth, stem_channels=4, width=4)
    stages = [shape.make_stage(stage) for stage in (2, 3, 4, 5)]
    on_path = [m for s in stages for b in s for n, m in b.named_children() if re.fullmatch(r"conv\d", n)]
    assert 1 + len(on_path) + 1 == depth, "conv1, the blocks' convolutions, and the classifier"


def test_resnet_101_is_3_4_23_3_blocks_and_has_17_more_than_resnet_50_all_in_conv4_x() -> None:
    assert BLOCKS_PER_STAGE[101] == (3, 4, 23, 3)
    blocks = {d: [len(ResNetShape(d, 4, 4).make_stage(s)) for s in (2, 3, 4, 5)] for d in (50, 101)}
    assert [more - fewer for more, fewer in zip(blocks[101], blocks[50], strict=True)] == [0, 0, 17, 0]
    assert 17 * 3 == 101 - 50 == 51


# Equality with torchvision


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameters_and_outputs_equal_torchvisions(depth: int) -> None:
    torch.manual_seed(depth)
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, 0, 0.1)
    # The normalisation must be live for its parameters to count; with fixed statistics it computes the same.
    with torch.device("meta"):
        live = Classifier(ResNetShape(depth, norm="batch", stride_in_1x1=False))
        ours = Classifier(ResNetShape(depth, norm="frozen_batch", stride_in_1x1=False)).eval()
    assert parameter_count(live) == parameter_count(theirs) == PARAMETERS[depth]
    state = {our_name(k): v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    ours.load_state_dict(state, assign=True)

    pixels = torch.randn(2, 3, 64, 80)
    with torch.inference_mode():
        expected = theirs(pixels)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours(pixels), expected, rtol=1e-4, atol=1e-5)


def test_the_stride_of_a_bottleneck_is_in_the_1x1_or_in_the_3x3() -> None:
    for stride_in_1x1, strides in ((True, (2, 1)), (False, (1, 2))):
        block = Bottleneck(8, 4, stride=2, norm="frozen_batch", stride_in_1x1=stride_in_1x1)
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides
        assert isinstance(block.shortcut, Projection)
        assert block.shortcut.conv.stride[0] == 2
        assert block(torch.zeros(1, 8, 9, 12)).shape == (1, 16, 5, 6)


# Shapes


@pytest.mark.parametrize(("depth", "expansion"), [(18, 1), (50, 4)])
def test_every_stage_halves_the_resolution_and_doubles_the_width(depth: int, expansion: int) -> None:
    shape = ResNetShape(depth, stem_channels=6, width=4)
    backbone = ResNetC4(shape)
    x = backbone.max_pool(backbone.norm1(backbone.conv1(torch.zeros(1, 3, 96, 64))))
    assert x.shape == (1, 6, 24, 16)
    for stage, size, width in ((2, (24, 16), 4), (3, (12, 8), 8), (4, (6, 4), 16)):
        x = getattr(backbone, f"conv{stage}_x")(x)
        assert x.shape == (1, width * expansion, *size)
        assert shape.stage_channels(stage) == width * expansion
    assert shape.make_stage(5)(torch.zeros(3, 16 * expansion, 14, 14)).shape == (3, 32 * expansion, 7, 7)
    assert backbone.out_channels == 16 * expansion


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 31), (33, 240)])
def test_the_map_has_a_cell_for_every_started_16_pixels(size: tuple[int, int]) -> None:
    backbone = ResNetC4(ResNetShape(18, 4, 4))
    expected = (math.ceil(size[0] / backbone.stride), math.ceil(size[1] / backbone.stride))
    assert backbone(torch.zeros(1, 3, *size))[0].values.shape[2:] == expected


# Normalisation


def test_frozen_batch_norm_by_hand() -> None:
    norm = FrozenBatchNorm2d(2)
    norm.load_state_dict(
        {
            "weight": torch.tensor([3.0, 1.0]),
            "bias": torch.tensor([0.5, 0.0]),
            "running_mean": torch.tensor([1.0, 0.0]),
            # So small a variance shows ε: 1 / √(3e-5 + 1e-5) = 158.1
            "running_var": torch.tensor([4.0 - 1e-5, 3e-5]),
        }
    )
    y = norm(torch.tensor([[[[5.0]], [[1.0]]]]))
    torch.testing.assert_close(y.flatten(), torch.tensor([(5 - 1) / 2 * 3 + 0.5, 158.1139]), rtol=1e-5, atol=0)


def test_frozen_batch_norm_has_nothing_to_train_and_starts_as_the_identity() -> None:
    norm = FrozenBatchNorm2d(3)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm.train()(x), x)
    assert list(norm.parameters()) == []
    assert sorted(norm.state_dict()) == ["bias", "running_mean", "running_var", "weight"]
    assert norm.running_mean.abs().max() == 0, "training mode does not move its statistics"


def test_gradients_pass_through_frozen_batch_norm() -> None:
    norm = FrozenBatchNorm2d(1)
    norm.weight.fill_(3.0)
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(3.0)


def test_kinds_of_norm() -> None:
    assert isinstance(make_norm("frozen_batch", 8), FrozenBatchNorm2d)
    batch, group, narrow = make_norm("batch", 8), make_norm("group", 64), make_norm("group", 24)
    assert isinstance(batch, nn.BatchNorm2d)
    assert isinstance(group, nn.GroupNorm)
    assert isinstance(narrow, nn.GroupNorm)
    assert group.num_groups == 32
    assert narrow.num_groups == 8, "the most groups up to 32 that divide the channels evenly"
    assert batch.eps == group.eps == 1e-5


# Freezing


@pytest.mark.parametrize("freeze_stages", range(5))
def test_frozen_stages_get_no_gradient_and_the_others_do(freeze_stages: int) -> None:
    backbone = ResNetC4(ResNetShape(18, 4, 4, norm="batch"), freeze_stages)
    stages = ("conv1|norm1", "conv2_x", "conv3_x", "conv4_x")
    frozen = "|".join(stages[:freeze_stages]) or "none"
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad != bool(re.match(frozen, name)), name


def test_live_batch_norms_learn_statistics_except_in_frozen_stages() -> None:
    backbone = ResNetC4(ResNetShape(18, 4, 4, norm="batch"), freeze_stages=2)
    backbone.eval().train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if k.endswith("running_mean")}
    backbone(torch.randn(2, 3, 64, 64))
    moved = {k for k, v in before.items() if not torch.equal(backbone.state_dict()[k], v)}
    assert moved == {k for k in before if k.startswith(("conv3_x", "conv4_x"))}
    assert backbone.training
    assert backbone.conv4_x.training


def test_convolutions_start_with_he_initialisation_and_have_no_bias() -> None:
    torch.manual_seed(0)
    conv = Bottleneck(64, 64, stride=1, norm="frozen_batch", stride_in_1x1=True).conv2
    assert conv.bias is None
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)


def test_names_in_the_state_dict() -> None:
    norm = ["bias", "running_mean", "running_var", "weight"]
    bottleneck = ResNetC4(ResNetShape(50, 4, 4)).conv2_x.state_dict()
    first = [k.removeprefix("0.") for k in bottleneck if k.startswith("0.")]
    assert sorted(first) == sorted(
        [f"conv{i}.weight" for i in (1, 2, 3)]
        + [f"norm{i}.{n}" for i in (1, 2, 3) for n in norm]
        + ["shortcut.conv.weight"]
        + [f"shortcut.norm.{n}" for n in norm]
    )
    assert not any(k.startswith("1.shortcut") for k in bottleneck)
    basic = ResNetC4(ResNetShape(18, 4, 4)).state_dict()
    assert not any("conv3." in k or k.startswith("conv2_x.0.shortcut") for k in basic)
    assert "conv3_x.0.shortcut.conv.weight" in basic
    assert "norm1.running_var" in basic
