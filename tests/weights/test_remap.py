"""A table of names: all of the source, all of the target, or one error that lists every name."""

import pytest
import torch
from tiny_models import tiny_config

from detector.errors import UserError
from detector.model.build import build_model
from detector.weights.remap import fill_folded_statistics, remap, reverse_channels, translate
from detector.weights.state_layout import backbone_shapes, imagenet_shapes, model_shapes

SOURCE = {"w": torch.arange(6.0).view(2, 3), "b": torch.ones(2), "fc": torch.ones(9)}
TABLE = {"w": "conv.weight", "b": "conv.bias", "fc": None}
EXPECTED = {"conv.weight": (2, 3), "conv.bias": (2,)}


def test_every_tensor_is_renamed_or_dropped_on_purpose() -> None:
    result = remap(SOURCE, TABLE, EXPECTED, "x")
    assert list(result) == list(EXPECTED)
    assert torch.equal(result["conv.weight"], SOURCE["w"])


def test_all_problems_are_listed_at_once() -> None:
    source = {"w": torch.ones(3, 2), "extra": torch.ones(1), "extra2": torch.ones(1), "fc": torch.ones(9)}
    with pytest.raises(UserError) as caught:
        remap(source, TABLE, EXPECTED, "model.pth")
    text = str(caught.value)
    assert text == (
        "model.pth: the tensors do not fit the model of the config: left over (2): extra, extra2; missing (1): b; "
        "of another shape (1): w is [3, 2] and should be [2, 3]."
    )


def test_a_name_of_the_table_without_place_in_the_model_is_left_over() -> None:
    with pytest.raises(UserError, match=r"left over \(1\): b\."):
        remap(SOURCE, TABLE, {"conv.weight": (2, 3)}, "x")


def test_two_names_for_one_tensor_are_refused() -> None:
    with pytest.raises(UserError, match=r"given twice \(1\): b2 and b"):
        remap(SOURCE | {"b2": torch.zeros(2)}, TABLE | {"b2": "conv.bias"}, EXPECTED, "x")


def test_counters_of_batches_are_no_gap_and_no_remainder() -> None:
    expected = EXPECTED | {"norm.num_batches_tracked": ()}
    assert remap(SOURCE, TABLE, expected, "x")["norm.num_batches_tracked"] == 0
    source = SOURCE | {"bn.num_batches_tracked": torch.tensor(7)}
    assert "norm.num_batches_tracked" not in remap(source, TABLE, EXPECTED, "x")
    table = TABLE | {"bn.num_batches_tracked": "norm.num_batches_tracked"}
    assert remap(source, table, expected, "x")["norm.num_batches_tracked"] == 7


def test_statistics_are_filled_only_where_the_file_has_none() -> None:
    table = {"m": "n.running_mean", "v": "n.running_var", "n_running_mean": None}
    expected = {"n.running_mean": (2,), "n.running_var": (2,)}
    filled = fill_folded_statistics({}, table, expected)
    assert filled["m"].tolist() == [0, 0]
    assert filled["v"].tolist() == [1, 1]
    assert fill_folded_statistics({"n_running_mean": torch.ones(2)}, table, expected).keys() == {"n_running_mean"}


def test_translation_replaces_whole_pieces_of_names() -> None:
    names = ["conv1.weight", "a.conv1.weight", "a.myconv1.weight"]
    assert translate(names, [(".conv1.", ".stem.")]) == {
        "conv1.weight": "stem.weight",
        "a.conv1.weight": "a.stem.weight",
        "a.myconv1.weight": "a.myconv1.weight",
    }
    with pytest.raises(AssertionError):
        translate(["a.x", "b.x"], [(".a.", "."), (".b.", ".")])


def test_channels_are_reversed_twice_to_themselves() -> None:
    weight = torch.arange(12.0).view(2, 3, 1, 2)
    assert torch.equal(reverse_channels(weight)[:, 0], weight[:, 2])
    assert torch.equal(reverse_channels(reverse_channels(weight)), weight)


@pytest.mark.parametrize("backbone", [{"depth": 18}, {"depth": 50, "norm": "batch"}, {"conv5_norm": "group"}])
def test_shapes_are_those_of_the_model(backbone: dict[str, object]) -> None:
    config = tiny_config(backbone=backbone)
    expected = {name: tuple(tensor.shape) for name, tensor in build_model(config).state_dict().items()}
    assert model_shapes(config) == expected
    assert backbone_shapes(config) == {
        name: shape for name, shape in expected.items() if name.startswith(("backbone.", "roi_head.conv5_x."))
    }


def test_imagenet_fills_what_has_batch_norms() -> None:
    plain, grouped_end = tiny_config(), tiny_config(backbone={"conv5_norm": "group"})
    assert imagenet_shapes(plain, True, "x") == backbone_shapes(plain)
    without_end = {name for name in backbone_shapes(plain) if name.startswith("backbone.")}
    assert imagenet_shapes(plain, False, "x").keys() == without_end
    assert imagenet_shapes(grouped_end, True, "x").keys() == without_end
    with pytest.raises(UserError, match=r"model\.backbone\.norm to frozen_batch or batch"):
        imagenet_shapes(tiny_config(backbone={"norm": "group"}), True, "x")
