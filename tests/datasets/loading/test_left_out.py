import numpy as np
import pytest

from detector.datasets.loading.left_out import LeftOut, next_of_group
from detector.datasets.pictures.read import ImageError


def test_each_picture_is_said_once() -> None:
    said: list[str] = []
    left_out = LeftOut("set.json", 100, "So.", said.append)
    left_out.note(["a is broken.", "b is broken."])
    left_out.note(["a is broken."])
    left_out.note([])
    assert said == ["a is broken. So.", "b is broken. So."]


@pytest.mark.parametrize(("total", "limit"), [(12, 10), (1000, 10), (118_287, 1182)])
def test_more_than_one_in_a_hundred_is_too_many(total: int, limit: int) -> None:
    said: list[str] = []
    left_out = LeftOut("set.json", total, "So.", said.append)
    left_out.note([f"{number} is broken." for number in range(limit)])
    message = (
        rf"set\.json: more than {limit} pictures cannot be used, one of them is x is broken\. faster-rcnn check-data"
    )
    with pytest.raises(ImageError, match=message):
        left_out.note(["x is broken."])
    assert len(said) == limit


def test_without_a_warning_the_first_raises() -> None:
    with pytest.raises(ImageError, match=r"^a is broken\.$"):
        LeftOut("set.json", 100, "So.", None).note(["a is broken."])


def test_the_next_of_the_same_group_takes_a_place() -> None:
    kept, groups = np.array([0, 2, 3, 5, 6]), np.array([True, False, True, False, True])
    assert next_of_group(kept, groups, 8).tolist() == [3, 1, 5, 6, 4, 2, 0, 7]
    assert next_of_group(kept[:1], groups[:1], 2).tolist() == [0, 1]
