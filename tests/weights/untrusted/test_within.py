"""Weights are found within checkpoints of every make, and their names lose what wrappers put before them."""

from typing import Any

import pytest
import torch

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


def test_where_nothing_says_which_the_whole_is_taken() -> None:
    """Then what is wrong with it is said."""
    for content in ({"a": WEIGHTS, "b": dict(WEIGHTS)}, {"epoch": 3}, {"optimizer": OPTIMIZER}):
        assert weights_of(content) is content
    empty: dict[str, Any] = {"model": {}}
    assert weights_of(empty) is empty["model"]


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
