"""The one comparison of names and shapes, and loading by it."""

import pytest
import torch
from torch import nn

from detector.errors import UserError
from detector.weights.compare import LISTED, compare_state, list_names, load_state, require_finite, shapes_of


def test_what_is_equal_is_no_difference() -> None:
    shapes = {"a": (2, 3), "b": ()}
    assert not compare_state(shapes, dict(reversed(shapes.items())))
    assert compare_state(shapes, shapes).describe() == ""


def test_every_kind_of_difference_is_described() -> None:
    differences = compare_state({"a": (2,), "b": (3,), "c": ()}, {"a": (3,), "d": (1,), "c": ()})
    assert differences
    assert (
        differences.describe() == "left over (1): d; missing (1): b; of another shape (1): a is [3] and should be [2]"
    )


def test_names_of_the_file_are_used_where_they_are_known() -> None:
    differences = compare_state({"a": (2,), "b": ()}, {"a": (3,)}, {"a": "conv.a", "b": "conv.b"})
    assert differences.describe() == "missing (1): conv.b; of another shape (1): conv.a is [3] and should be [2]"


def test_counters_may_be_missing_and_left_over_but_not_of_another_shape() -> None:
    counter = "norm.num_batches_tracked"
    assert not compare_state({counter: ()}, {})
    assert not compare_state({}, {counter: ()})
    assert compare_state({counter: ()}, {counter: (5,)})


def test_of_many_names_the_first_are_listed_and_safe_to_print() -> None:
    assert list_names("missing", [f"x{i}" for i in range(LISTED + 2)]).endswith(f"x{LISTED - 1} and 2 more")
    text = list_names("left over", ["a\n\x1b[2J", "x" * 10_000])
    assert text.isprintable()
    assert len(text) < 300


def test_loading_is_all_or_nothing() -> None:
    model = nn.Linear(2, 3)
    before = model.weight.detach().clone()
    with pytest.raises(
        UserError, match=r"^w\.pth: the tensors do not fit the model \(missing \(1\): bias\); ask again\.$"
    ):
        load_state(model, {"weight": torch.ones(3, 2)}, "w.pth", "ask again.")
    assert torch.equal(model.weight, before)
    load_state(model, {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, "w.pth", "ask again.")
    assert model.weight.sum() == 6


def test_counters_that_are_missing_stay_as_they_are() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    counter = model.state_dict()["0.num_batches_tracked"].fill_(9)
    state = {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    load_state(model, state, "w", "x")
    assert counter == 9


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_said(value: float) -> None:
    state = {"fine": torch.ones(2), "count": torch.tensor(3), "bad": torch.tensor([1.0, value, value])}
    with pytest.raises(UserError, match=r"^w: bad holds NaN or infinity in 2 of its 3 numbers.* take an earlier"):
        require_finite(state, "w")
    require_finite({"fine": torch.ones(2), "count": torch.tensor(3)}, "w")


def test_shapes() -> None:
    assert shapes_of({"a": torch.ones(2, 3), "b": torch.tensor(1)}) == {"a": (2, 3), "b": ()}


def test_of_many_names_only_the_first_are_listed_and_fewer_where_there_are_several_kinds() -> None:
    expected = {f"a{i}": (1,) for i in range(20)}
    assert compare_state(expected, {}).describe() == "missing (20): a0, a1, a2, a3, a4, a5, a6, a7 and 12 more"
    given = {f"b{i}": (1,) for i in range(6)}
    assert compare_state(expected, given).describe() == (
        "left over (6): b0, b1, b2, b3 and 2 more; missing (20): a0, a1, a2, a3 and 16 more"
    )
