"""Which pictures are left to be done, by whom, and how what all have done is put together."""

from dataclasses import replace

import pytest

from detector.errors import UserError
from detector.inference.picture_log import Entry
from detector.inference.picture_work import Work, check_complete, joined_results, work_left

PICTURES = [Entry(f"{name}.png", f"{name}.jpg", 10, 20) for name in "abcdef"]
DONE = {one.output: replace(one, detections=[{"score": 0.5}]) for one in PICTURES}


def test_done_ones_are_left_alone_and_unread_ones_come_last() -> None:
    assert work_left(PICTURES, {}) == Work([0, 1, 2, 3, 4, 5], [])
    assert work_left(PICTURES, DONE) == Work([], [])
    done = DONE | {"b.png": replace(PICTURES[1], problem="b: no picture")}
    del done["e.png"]
    assert work_left(PICTURES, done) == Work([4], [1])


@pytest.mark.parametrize("change", [{"size": 11}, {"modified": 21}, {"name": "sub/a.jpg"}])
def test_a_changed_picture_is_done_again(change: dict[str, int | str]) -> None:
    done = DONE | {"a.png": replace(DONE["a.png"], **change)}
    assert work_left(PICTURES, done) == Work([0], [])
    with pytest.raises(UserError, match="in 1 of 6 pictures"):
        check_complete(PICTURES, done, "out")


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_do_each_picture_once_in_the_batches_of_one_process(world_size: int) -> None:
    work = Work(list(range(7)), [20, 21, 22])
    shares = [work.share(2, rank, world_size) for rank in range(world_size)]
    assert sorted(number for share in shares for number in share.fresh) == work.fresh
    assert sorted(number for share in shares for number in share.again) == work.again
    batches = {tuple(share.fresh[start : start + 2]) for share in shares for start in range(0, len(share.fresh), 2)}
    assert batches == {(0, 1), (2, 3), (4, 5), (6,)}
    assert max(len(share.fresh) for share in shares) - min(len(share.fresh) for share in shares) <= 2


def test_results_are_numbered_by_the_list_whoever_did_them_and_in_whatever_order() -> None:
    other = Entry("z.png", "z.jpg", 1, 2, [{"score": 0.9}])
    done = {"z.png": other} | dict(reversed(DONE.items())) | {"c.png": replace(PICTURES[2], problem="c: no picture")}
    results = joined_results(PICTURES, done)
    assert [result["image_id"] for result in results] == [1, 2, 4, 5, 6, 7]
    assert list(results[0]) == ["image_id", "score"]
    del done["a.png"]
    assert [result["image_id"] for result in joined_results(PICTURES, done)] == [2, 4, 5, 6, 7]


def test_a_picture_that_nobody_has_done_is_said() -> None:
    check_complete(PICTURES, DONE, "out")
    missing = {output: one for output, one in DONE.items() if output not in ("b.png", "f.png")}
    with pytest.raises(UserError, match=r"out: lacks what other processes found in 2 of 6 pictures; --output must"):
        check_complete(PICTURES, missing, "out")
