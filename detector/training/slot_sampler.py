"""The sampler of `training/sampler.py` in a fixed number of slots, for many pictures at once. It chooses the same.

How it works: `sampler.sample` shuffles as many numbers as there are positives, then as many as there are negatives, and
takes the first of each. How many there are only the device knows, and asking it is a wait; but the random numbers that
shuffling draws do not depend on that. So they are drawn beforehand, on the host, from the same seed, and the device
works out which candidates a shuffle with these numbers would have put first. A run is therefore the same function of
its seed in slots and without, on every device, and after a resume.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from detector.structures import moved
from detector.training.matcher import NEGATIVE, POSITIVE

log = logging.getLogger(__name__)

# With more slots the table of which draws meet, slots × slots for each picture, would take gigabytes.
MOST_SLOTS = 2048


@dataclass(frozen=True)
class SlotSample:
    """S slots for the sampled candidates of each of N pictures: the positives, then the negatives, then empty ones.

    places: [N, S] int64, indices of candidates; meaningless in empty slots. positive: [N, S] bool, whether the slot
    holds a positive candidate. valid: [N, S] bool, whether it holds any.
    """

    places: Tensor
    positive: Tensor
    valid: Tensor


def draw(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """The 32-bit numbers that `torch.Generator().manual_seed(seed)` gives one by one: [N, ≥ count] int64.

    They are drawn on the CPU; the host does not wait for a GPU to take them.
    """
    pairs = torch.empty(len(seeds), (count + 1) // 2, dtype=torch.int64)
    for row, seed in zip(pairs, seeds, strict=True):
        row.random_(-(2**63), None, generator=torch.Generator().manual_seed(seed))
    pairs = moved(pairs, device)
    return torch.stack((pairs >> 32, pairs), dim=2).bitwise_and(2**32 - 1).flatten(1)


def sample_slots(labels: Tensor, count: int, positive_fraction: float, draws: Tensor) -> SlotSample:
    """What `sampler.sample` chooses in each of N pictures.

    Args:
        labels: [N, P] int64, POSITIVE, NEGATIVE or IGNORED.
        count: S, the number of slots, unless there are fewer candidates. At most `MOST_SLOTS`.
        draws: [N, ≥ P + count], from `draw` with the seeds of the pictures.
    """
    slots = min(count, labels.shape[1])
    most_positives = min(int(count * positive_fraction), slots)
    kinds = torch.stack((labels == POSITIVE, labels == NEGATIVE))  # [2, N, P]
    there = kinds.sum(dim=2, keepdim=True)
    taken = there[0].clamp(max=most_positives)
    slot = torch.arange(slots, device=labels.device)
    # Shuffling n numbers takes n − 1 draws; those for the negatives follow.
    following = draws.gather(1, (there[0] - 1).clamp(min=0) + slot)
    first = shuffled(torch.cat((draws[:, :slots], following)), there.flatten(0, 1))
    of_positives, of_negatives = numbered(kinds.flatten(0, 1)).gather(1, first).chunk(2)
    positive = slot < taken
    return SlotSample(
        torch.where(positive, of_positives, of_negatives.gather(1, (slot - taken).clamp(min=0))),
        positive,
        slot < taken + torch.minimum(there[1], count - taken),
    )


def numbered(chosen: Tensor) -> Tensor:
    """The indices of the chosen candidates in ascending order: [N, P] bool to [N, P] int64, 0 after the last."""
    places = torch.arange(chosen.shape[1], device=chosen.device).expand_as(chosen)
    rank = (chosen.cumsum(dim=1) - 1).where(chosen, chosen.shape[1])
    table = places.new_zeros(chosen.shape[0], chosen.shape[1] + 1)
    return table.scatter_(1, rank, places)[:, :-1]


def shuffled(draws: Tensor, total: Tensor) -> Tensor:
    """The beginning of `torch.randperm(total)` for each of N totals, had its generator given these numbers.

    randperm goes through positions 0, 1, … and swaps the number at each with that at the same or a later position,
    which the draw says. The number it gets from there was put there by the last earlier step that swapped with the same
    position, if any. So each number is traced back from step to step to the position where it began.

    Args:
        draws: [N, S] int64, 32 bits each.
        total: [N, 1] int64; what comes after the first `total` numbers of a row means nothing.

    Returns:
        [N, S] int64, at least 0 and below `total`, or 0 where that is 0.
    """
    step = torch.arange(draws.shape[1], device=draws.device)
    other = step + draws % (total - step).clamp(min=1)
    before = step < step[:, None]  # [S, S]: draw k came before draw s

    def latest(position: Tensor) -> Tensor:
        """[N, S]: the last draw before s that exchanged something with `position` of s; −1 if there was none."""
        met = (other[:, None, :] == position[..., None]) & before
        return torch.where(met, step, -1).amax(dim=2)

    came_from = latest(step.expand_as(other))
    origin = torch.where(came_from < 0, step, came_from)
    for _ in range(draws.shape[1].bit_length()):  # each time twice as far back
        origin = origin.gather(1, origin)
    last = latest(other)
    numbers = torch.where(last < 0, other, origin.gather(1, last.clamp(min=0)))
    return torch.minimum(numbers, (total - 1).clamp(min=0))


@cache
def follows_randperm() -> bool:
    """Whether `shuffled` is this PyTorch's `torch.randperm`; said in the log where it is not."""
    expected = torch.randperm(99, generator=torch.Generator().manual_seed(1))[:50]
    follows = torch.equal(shuffled(draw([1], 50, expected.device), torch.tensor([[99]]))[0], expected)
    if not follows:
        log.warning(
            "this PyTorch shuffles in a way that is not known here: training waits for the GPU, and is just as exact."
        )
    return follows
