import numpy as np
import pytest
import torch

from detector.datasets.loading.batch import PreparedImage, collate, make_batch
from detector.structures import Target


def image(height: int, width: int, value: int = 7) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_padding_is_zero_at_the_right_and_the_bottom() -> None:
    batch = make_batch([image(2, 5), image(4, 3, 9)], [(20, 50), (40, 30)], [11, 12])
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.shape == (2, 3, 4, 5)
    assert (batch.pixels[0, :, :2] == 7).all()
    assert (batch.pixels[0, :, 2:] == 0).all()
    assert (batch.pixels[1, :, :, :3] == 9).all()
    assert (batch.pixels[1, :, :, 3:] == 0).all()
    assert (batch.sizes, batch.original_sizes, batch.image_ids) == ([(2, 5), (4, 3)], [(20, 50), (40, 30)], [11, 12])


@pytest.mark.parametrize(("multiple", "expected"), [(1, (33, 64)), (32, (64, 64)), (5, (35, 65))])
def test_padding_to_a_multiple(multiple: int, expected: tuple[int, int]) -> None:
    batch = make_batch([image(33, 64)], [(33, 64)], [0], multiple)
    assert batch.pixels.shape[2:] == expected
    assert int(batch.pixels.sum()) == 3 * 33 * 64 * 7
    assert batch.sizes == [(33, 64)]


def test_channels_come_first_and_views_are_read_as_they_look() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    batch = make_batch([pixels], [(2, 4)], [0])
    assert batch.pixels[0].tolist() == pixels.transpose(2, 0, 1).tolist()
    assert batch.pixels.is_contiguous()


def test_float_images_stay_float() -> None:
    batch = make_batch([np.full((2, 2, 3), 0.5, np.float32)], [(2, 2)], [0])
    assert batch.pixels.dtype == torch.float32
    assert batch.pixels.unique().tolist() == [0.5]


def test_collate_keeps_order() -> None:
    targets = [Target(torch.full((i, 4), float(i)), torch.full((i,), i)) for i in range(2)]
    prepared = [PreparedImage(image(2, 3), targets[0], (4, 6), 8), PreparedImage(image(1, 1), targets[1], (2, 2), 9)]
    batch, collated = collate(prepared, 4)
    assert batch.image_ids == [8, 9]
    assert batch.original_sizes == [(4, 6), (2, 2)]
    assert batch.pixels.shape == (2, 3, 4, 4)
    assert collated == targets
