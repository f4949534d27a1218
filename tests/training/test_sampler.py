import pytest
import torch

from detector.training.matcher import IGNORED, NEGATIVE, POSITIVE
from detector.training.sampler import sample


def labels(positives: int, negatives: int, ignored: int = 0) -> torch.Tensor:
    """In an order without pattern."""
    kinds = torch.tensor([POSITIVE] * positives + [NEGATIVE] * negatives + [IGNORED] * ignored, dtype=torch.int64)
    return kinds[torch.randperm(len(kinds), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (100, 100, (8, 24)),  # a quarter of 32
        (3, 100, (3, 29)),  # negatives fill what positives leave
        (0, 100, (0, 32)),
        (100, 5, (8, 5)),  # positives do not fill what negatives leave
        (100, 0, (8, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_how_many_of_each(positives: int, negatives: int, expected: tuple[int, int]) -> None:
    chosen = sample(labels(positives, negatives, ignored=50), count=32, positive_fraction=0.25, seed=1)
    assert tuple(len(c) for c in chosen) == expected
    assert all(c.dtype == torch.int64 for c in chosen)


def test_each_is_chosen_once_and_is_what_it_says() -> None:
    kinds = labels(40, 60, ignored=20)
    positives, negatives = sample(kinds, count=64, positive_fraction=0.5, seed=3)
    assert set(kinds[positives].tolist()) == {POSITIVE}
    assert set(kinds[negatives].tolist()) == {NEGATIVE}
    assert len(set(positives.tolist())) == len(positives) == 32
    assert len(set(negatives.tolist())) == len(negatives) == 32


def test_the_choice_is_a_function_of_the_seed() -> None:
    kinds = labels(40, 60)
    torch.manual_seed(1)
    first = sample(kinds, 16, 0.5, seed=7)
    torch.manual_seed(2)
    again, other = sample(kinds, 16, 0.5, seed=7), sample(kinds, 16, 0.5, seed=8)
    assert [c.tolist() for c in first] == [c.tolist() for c in again]
    assert [set(c.tolist()) for c in first] != [set(c.tolist()) for c in other]


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    sample(labels(40, 60), 16, 0.5, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_candidate_has_its_chance() -> None:
    kinds = labels(6, 10)
    counts = torch.zeros(16)
    for seed in range(600):
        for chosen in sample(kinds, count=6, positive_fraction=0.5, seed=seed):
            counts[chosen] += 1
    # 3 of 6 positives, and 3 of 10 negatives, 600 times: means 300 and 180, deviations 12 and 11.
    assert (counts[kinds == POSITIVE] - 300).abs().max() < 60
    assert (counts[kinds == NEGATIVE] - 180).abs().max() < 60


def test_a_fraction_of_a_candidate_is_none() -> None:
    positives, negatives = sample(labels(10, 10), count=5, positive_fraction=0.5, seed=0)
    assert (len(positives), len(negatives)) == (2, 3)
