"""The sampler in slots chooses what the readable one chooses, from the same seed."""

import pytest
import torch
from torch import Tensor

from detector.training.matcher import IGNORED, NEGATIVE, POSITIVE
from detector.training.sampler import sample
from detector.training.slot_sampler import draw, follows_randperm, numbered, sample_slots, shuffled

CPU = torch.device("cpu")
KINDS = {
    "of all kinds": (0.2, 0.5, 0.3),
    "few positives": (0.3, 0.69, 0.01),
    "mostly positives": (0.05, 0.05, 0.9),
    "no positives": (0.5, 0.5, 0.0),
    "no negatives": (0.5, 0.0, 0.5),
    "none": (1.0, 0.0, 0.0),
}


@pytest.mark.parametrize("shares", KINDS.values(), ids=KINDS)
def test_the_same_candidates_in_the_same_order(shares: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for candidates, count, fraction in [(300, 64, 0.5), (300, 64, 0.25), (1000, 16, 0.01), (40, 64, 0.5), (1, 1, 1.0)]:
        labels = torch.multinomial(torch.tensor(shares), 2 * candidates, replacement=True, generator=generator) - 1
        labels = labels.view(2, candidates)
        seeds = torch.randint(0, 2**62, (2,), generator=generator).tolist()
        found = sample_slots(labels, count, fraction, draw(seeds, candidates + count, CPU))
        assert found.places.shape == (2, min(count, candidates))
        for i, seed in enumerate(seeds):
            positives, negatives = sample(labels[i], count, fraction, seed)
            assert torch.equal(found.places[i, found.positive[i]], positives)
            assert torch.equal(found.places[i, found.valid[i] & ~found.positive[i]], negatives)
            assert found.valid[i].tolist() == sorted(found.valid[i].tolist(), reverse=True), "empty ones come last"
            assert (found.valid[i] | ~found.positive[i]).all()


@pytest.mark.parametrize("total", [0, 1, 2, 3, 17, 63, 64, 65, 5000])
def test_a_shuffle_is_randperms(total: int) -> None:
    for seed in range(5):
        expected = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:64]
        found = shuffled(draw([seed], 64, CPU)[:, :64], torch.tensor([[total]]))
        assert torch.equal(found[0, : len(expected)], expected)
        assert ((found >= 0) & (found < max(total, 1))).all()


def test_draws_go_on_where_fewer_end_and_belong_to_their_seed() -> None:
    found = draw([7, 2**63 - 1], 9, CPU)
    assert found.shape[1] >= 9
    assert torch.equal(found[:, :4], draw([7, 2**63 - 1], 4, CPU)[:, :4])
    assert torch.equal(found[1:], draw([2**63 - 1], 9, CPU))
    assert not torch.equal(found[0], found[1])
    assert found.min() >= 0
    assert found.max() < 2**32


def test_another_pytorch_that_shuffles_otherwise_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert follows_randperm()
    monkeypatch.setattr(torch, "randperm", lambda count, **_more: torch.arange(count))
    follows_randperm.cache_clear()
    assert not follows_randperm()
    assert "shuffles in a way" in caplog.text
    follows_randperm.cache_clear()


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    draw([1, 2], 100, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_numbers_of_those_that_are_chosen() -> None:
    chosen = torch.tensor([[False, True, True, False, True], [False] * 5, [True] * 5])
    assert numbered(chosen).tolist() == [[1, 2, 4, 0, 0], [0] * 5, [0, 1, 2, 3, 4]]


def test_many_pictures_do_not_mix() -> None:
    labels = torch.tensor([[POSITIVE, NEGATIVE, IGNORED, NEGATIVE]] * 3)

    def chosen(seeds: list[int]) -> Tensor:
        return sample_slots(labels[: len(seeds)], 2, 0.5, draw(seeds, 6, CPU)).places

    assert torch.equal(chosen([1, 2, 3])[1], chosen([2])[0])
