"""Weights are found within checkpoints of every make, and their names lose what wrappers put before them."""

from typing import Any

import pytest
import torch

from detector.errors import UserError
from detector.weights.untrusted.within import unwrapped, weights_of

WEIGHTS = {"backbone.conv1.weight": torch.ones(2), "rpn.head.bias": torch.zeros(1)}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS, "optimizer": OPTIMIZER, "epoch": 3},
        {"epoch": 3, "model_state_dict": WEIGHTS, "optimizer_state_dict": OPTIMIZER, "loss": 0.5},
        {"model": {"name": "fasterrcnn", "classes": 3}, "state_dict": WEIGHTS},
        {"detector": WEIGHTS, "optimizer": OPTIMIZER, "epoch": 3},
        {"model": WEIGHTS, "model_ema": {name: 2 * tensor for name, tensor in WEIGHTS.items()}},
    ],
)
def test_the_entry_with_named_tensors_is_found(content: Any) -> None:
    assert weights_of(content) is (content if content is WEIGHTS else next(v for v in content.values() if v is WEIGHTS))


def test_where_nothing_is_there_the_whole_is_taken() -> None:
    """Then what is wrong with it is said."""
    for content in ({"epoch": 3}, {"optimizer": OPTIMIZER}, {"rng": {"cpu": torch.ones(1)}}):
        assert weights_of(content) is content
    empty: dict[str, Any] = {"model": {}}
    assert weights_of(empty) is empty["model"]


def wrapped(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in WEIGHTS.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("keys", [("checkpoint", "model"), ("state", "state_dict"), ("a", "b", "net"), ("run", "best")])
def test_entries_within_entries_are_found(keys: tuple[str, ...], prefix: str) -> None:
    content: Any = wrapped(prefix)
    for key in reversed(keys):
        content = {key: content, "epoch": 3, "optimizer": {"exp_avg": doubled(WEIGHTS)}, "rng": {"cpu": torch.ones(1)}}
    assert unwrapped(weights_of(content)) == WEIGHTS


def doubled(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: 2 * tensor + 1 for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"checkpoint": {"model": WEIGHTS, "model_ema": doubled(WEIGHTS)}},
        {"checkpoint": {"detector": WEIGHTS, "EMA": {"module": doubled(WEIGHTS), "updates": 7}}},
        {"ema": {"model": doubled(WEIGHTS)}, "state": {"model": WEIGHTS}},
        {"state_dict": {"model": WEIGHTS}, "averaged-model": doubled(WEIGHTS)},
        {"checkpoint": {"model": WEIGHTS}, "last": {"model": {f"module.{k}": v.clone() for k, v in WEIGHTS.items()}}},
    ],
)
def test_averages_and_copies_beside_the_weights_leave_no_doubt(content: Any) -> None:
    assert unwrapped(weights_of(content)) == WEIGHTS


def test_an_average_is_taken_where_it_is_alone() -> None:
    assert weights_of({"epoch": 1, "ema": {"module": WEIGHTS, "updates": 3}}) is WEIGHTS


@pytest.mark.parametrize(
    ("content", "first", "second"),
    [
        ({"a": WEIGHTS, "b": doubled(WEIGHTS)}, "['a']", "['b']"),
        ({"model": WEIGHTS, "state_dict": doubled(WEIGHTS)}, "['model']", "['state_dict']"),
        (
            {"checkpoint": {"model": WEIGHTS, "net": doubled(WEIGHTS)}},
            "['checkpoint']['model']",
            "['checkpoint']['net']",
        ),
        ({"best": {"model": WEIGHTS}, "last": {"model": {}, "net": doubled(WEIGHTS)}}, "['best']['model']", "['last']"),
        ({"ema": WEIGHTS, "swa": doubled(WEIGHTS)}, "['ema']", "['swa']"),
        ({"a": WEIGHTS, "b": {**WEIGHTS, "more.weight": torch.ones(1)}}, "['a']", "['b']"),
    ],
)
def test_weights_that_differ_are_refused_with_the_choices(content: Any, first: str, second: str) -> None:
    with pytest.raises(UserError, match=r"^x\.pth: has weights under several keys, which differ") as error:
        weights_of(content, "x.pth")
    assert first in str(error.value)
    assert second in str(error.value)
    assert f"torch.save(torch.load(FILE){first}, " in str(error.value)


def test_a_tensor_that_claims_more_than_it_has_is_not_compared() -> None:
    huge = {"a.weight": torch.ones(1).expand(10**12)}
    with pytest.raises(UserError, match="which differ"):
        weights_of({"x": huge, "y": dict(huge)})


def test_an_average_that_was_an_attribute_beside_the_model_is_left_out() -> None:
    names = {f"model.{k}": v for k, v in WEIGHTS.items()} | {f"model_ema.module.{k}": 2 * v for k, v in WEIGHTS.items()}
    assert unwrapped(names | {"model_ema.n_averaged": torch.tensor(3)}) == WEIGHTS
    assert unwrapped({f"ema.{k}": v for k, v in WEIGHTS.items()}) == WEIGHTS


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.", "detector."],
)
def test_wrappers_before_all_names_go(prefix: str) -> None:
    assert unwrapped({prefix + name: tensor for name, tensor in WEIGHTS.items()}) == WEIGHTS


def test_a_part_that_was_compiled_loses_its_wrapper_too() -> None:
    renamed = {"backbone._orig_mod.conv1.weight": WEIGHTS["backbone.conv1.weight"], "rpn.head.bias": torch.zeros(1)}
    assert unwrapped(renamed).keys() == WEIGHTS.keys()


def test_the_counter_of_a_moving_average_goes_with_its_wrapper() -> None:
    averaged = {"n_averaged": torch.tensor(9), **{f"module.{name}": tensor for name, tensor in WEIGHTS.items()}}
    assert unwrapped(averaged) == WEIGHTS


@pytest.mark.parametrize(
    "names",
    [
        ["module.a", "b"],
        ["a.weight", "a.bias"],
        ["model.0.conv.weight", "model.1.conv.weight"],
        ["module"],
        ["a._orig_mod.b", "a.b", "c"],
    ],
)
def test_other_names_stay(names: list[str]) -> None:
    """A word before all names is a wrapper's only where a network that is known here follows."""
    assert list(unwrapped(dict.fromkeys(names, torch.ones(1)))) == names
