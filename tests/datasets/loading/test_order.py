import time
from itertools import islice

import numpy as np
import pytest
from annotated_sets import columns_of

from detector.config import InputConfig
from detector.datasets.dataset import DetectionDataset, make_dataset
from detector.datasets.loading.order import GlobalBatches, MicroBatchSampler, equal_size_batches, slot_seed
from detector.structures import Size

WIDE = np.arange(50) % 3 > 0  # 33 wide pictures, 17 tall ones


def batches(batch_size: int = 4, seed: int = 0, groups: np.ndarray = WIDE) -> GlobalBatches:
    return GlobalBatches(np.arange(len(groups)) + 100, groups, batch_size, seed)


def first(count: int, order: GlobalBatches, start: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in islice(order.starting_at(start), count)]


def test_a_batch_is_all_wide_or_all_tall() -> None:
    for batch in first(60, batches()):
        assert len(set(WIDE[np.array(batch) - 100].tolist())) == 1


def test_no_picture_is_skipped_or_favoured() -> None:
    """After any number of epochs a picture was seen as often as every other of its group, or once more or less."""
    for batch_size in (1, 4, 16):
        seen = np.bincount(np.concatenate(first(400 // batch_size, batches(batch_size))) - 100, minlength=50)
        for group in (WIDE, ~WIDE):
            assert np.ptp(seen[group]) <= 1
        assert abs(seen[WIDE].mean() - seen[~WIDE].mean()) < 1


def test_a_batch_may_span_epochs() -> None:
    """17 tall pictures fill no batch of 20 within an epoch; the rest of it comes from the next."""
    order = batches(20)
    tall = [batch for batch in first(30, order) if not WIDE[batch[0] - 100]]
    stream = [index for batch in tall for index in batch]
    assert sorted(stream[:17]) == sorted(set(stream))
    assert sorted(stream[17:34]) == sorted(set(stream))


def test_without_groups_each_epoch_is_a_permutation() -> None:
    stream = np.concatenate(first(25, batches(4, groups=np.zeros(50, bool))))
    assert sorted(stream[:50]) == sorted(stream[50:]) == list(range(100, 150))
    assert stream[:50].tolist() != stream[50:].tolist()
    assert stream[:50].tolist() != sorted(stream[:50])


def test_the_seed_decides() -> None:
    assert first(10, batches()) == first(10, batches())
    assert first(10, batches()) != first(10, batches(seed=1))


@pytest.mark.parametrize("start", [1, 7, 12, 13, 100])
def test_starting_anywhere_gives_the_same_stream(start: int) -> None:
    order = batches()
    assert first(30, order, start) == first(start + 30, order)[start:]


def test_the_end_of_a_coco_schedule_is_reached_in_seconds() -> None:
    order = GlobalBatches(np.arange(118_287), np.arange(118_287) % 3 > 0, 16, 0)
    began = time.process_time()
    next(order.starting_at(270_000))
    assert time.process_time() - began < 10


def test_processes_share_a_batch_and_cut_it_into_pieces() -> None:
    order = batches(12)
    whole = [slot for piece in islice(MicroBatchSampler(order, 5, 1, 0, 1), 3) for slot in piece]
    assert [slot.iteration for slot in whole] == [5] * 12 + [6] * 12 + [7] * 12
    assert [slot.index for slot in whole[:12]] == first(1, order, 5)[0]
    for world_size, accumulate in ((2, 1), (3, 2), (1, 4), (12, 1)):
        pieces = [
            list(islice(MicroBatchSampler(order, 5, accumulate, rank, world_size), 3 * accumulate))
            for rank in range(world_size)
        ]
        assert {len(piece) for rank in pieces for piece in rank} == {12 // world_size // accumulate}
        again = [
            slot
            for step in range(3)
            for rank in pieces
            for piece in rank[step * accumulate : (step + 1) * accumulate]
            for slot in piece
        ]
        assert again == whole


def test_seeds_differ_everywhere() -> None:
    seeds = {slot_seed(seed, step, place) for seed in range(5) for step in range(50) for place in range(16)}
    assert len(seeds) == 5 * 50 * 16
    assert max(seeds) < 2**62
    assert slot_seed(1, 2, 3) == slot_seed(1, 2, 3)


def dataset(sizes: list[Size | None]) -> DetectionDataset:
    none = np.zeros(0)
    names = [f"{number}.jpg" for number in range(len(sizes))]
    columns = columns_of(
        range(len(sizes)),
        names,
        [size or (0, 0) for size in sizes],
        owners=[],
        corners=none.reshape(0, 4),
        classes=none.astype(int),
        iscrowd=none.astype(bool),
        areas=none,
        categories=[(1, "a")],
    )
    return make_dataset(columns, ".")


def test_only_pictures_of_one_input_size_share_a_batch() -> None:
    """(10, 20) and (20, 40) become the same input image; pictures of unknown size are alone."""
    data = dataset([(10, 20), (30, 10), (20, 40), None, (10, 20), (30, 10), None])
    config = InputConfig(min_size_test=40, max_size_test=200)
    assert equal_size_batches(data, config, 2) == [[0, 2], [1, 5], [3], [4], [6]]
    assert equal_size_batches(data, config, 8) == [[0, 2, 4], [1, 5], [3], [6]]
    assert equal_size_batches(data, config, 1) == [[0], [1], [2], [3], [4], [5], [6]]
    unscaled = InputConfig(min_size_test=0)
    assert equal_size_batches(data, unscaled, 8) == [[0, 4], [1, 5], [2], [3], [6]]
