"""Tiles: where they lie, what is seen once, and that a picture that fits one tile is detected as without."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.config import InputConfig
from detector.datasets.pictures.windows import DecodedWindows, Window
from detector.errors import UserError
from detector.inference.detections import Detections
from detector.inference.predictor import Predictor
from detector.inference.tiles import Tiling, detect_files_tiled, detect_in_tiles, fitted, most_pixels

CATEGORIES = CategoryMap((Category(1, "red"), Category(2, "green"), Category(3, "blue")))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    config = tiny_config(inputs={"min_size_test": 96, "max_size_test": 160})
    return Predictor(tiny_model(config), config, CATEGORIES)


def picture(height: int, width: int) -> np.ndarray:
    return random_batch([(height, width)]).pixels[0].permute(1, 2, 0).numpy().copy()


@pytest.mark.parametrize("size", [(100, 64), (64, 65), (333, 1000), (70, 1000), (129, 128)])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_tiles_have_full_size_cover_all_and_overlap_enough(size: tuple[int, int], overlap: float) -> None:
    windows = Tiling(64, overlap).windows(size)
    covered = np.zeros(size, bool)
    for top, left, height, width in windows:
        assert (height, width) == (64, 64)
        assert 0 <= top <= size[0] - 64
        assert 0 <= left <= size[1] - 64
        covered[top : top + 64, left : left + 64] = True
    assert covered.all()
    assert len(set(windows)) == len(windows)
    for starts in ({window.top for window in windows}, {window.left for window in windows}):
        assert all(later - earlier <= 64 * (1 - overlap) for earlier, later in pairwise(sorted(starts)))


def test_a_picture_lower_than_a_tile_has_one_row_of_lower_tiles() -> None:
    assert Tiling(64).windows((40, 100)) == [Window(0, 0, 40, 64), Window(0, 36, 40, 64)]
    assert Tiling(64).windows((64, 64)) == Tiling(64).windows((1, 1)) == []


def test_impossible_tiles_are_refused() -> None:
    with pytest.raises(UserError, match="too small"):
        Tiling(8)
    with pytest.raises(UserError, match="cannot overlap by 1"):
        Tiling(64, 1.0)


def test_a_picture_that_fits_a_tile_gives_the_same_bits(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(picture(100, 120)).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", picture(100, 120)):
        plain, tiled = predictor.predict(source, 0.2), predictor.predict(source, 0.2, tile=120)
        assert len(plain) > 10
        assert torch.equal(plain.boxes, tiled.boxes)
        assert torch.equal(plain.scores, tiled.scores)
        assert torch.equal(plain.labels, tiled.labels)
        assert plain.draw().shape == tiled.draw().shape
    assert [len(one) for one in predictor.predict([picture(100, 120)] * 2, 0.2, tile=120)] == [len(plain)] * 2


def test_a_higher_threshold_leaves_out_what_scores_less_and_changes_nothing_else(predictor: Predictor) -> None:
    everything, some = (predictor.predict(picture(100, 160), score, tile=100) for score in (0.0, 0.2))
    assert 5 < len(some) < len(everything)
    assert torch.equal(some.boxes, everything.at_least(0.2).boxes)
    assert torch.equal(some.scores, everything.at_least(0.2).scores)


def red_squares(pictures: Sequence[np.ndarray]) -> list[Detections]:
    """Finds red rectangles on black, however small or cut, without an error; surer the larger they are."""
    found = []
    for image in pictures:
        boxes = []
        rest = (image[..., 0] > 128) & (image[..., 1] < 128)
        while rest.any():
            top, left = np.argwhere(rest)[0]
            height = int(rest[top:, left].argmin()) or len(rest) - top
            width = int(rest[top, left:].argmin()) or rest.shape[1] - left
            rest[top : top + height, left : left + width] = False
            boxes.append((left, top, left + width, top + height))
        boxes.sort(key=lambda box: -(box[2] - box[0]) * (box[3] - box[1]))
        scores = [0.99 - 0.001 * rank for rank in range(len(boxes))]
        size = (image.shape[0], image.shape[1])
        tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        found.append(
            Detections(tensor, torch.tensor(scores), torch.ones(len(boxes), dtype=torch.int64), size, CATEGORIES)
        )
    return found


def scene(boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int] = (400, 500)) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right, 0] = 255
    return image


def assert_found_once(boxes: Sequence[tuple[int, int, int, int]], tile: int, overlap: float = 0.2) -> None:
    """Each within a pixel: what the whole picture alone shows whole was seen at half its size."""
    windows = DecodedWindows(scene(boxes))
    detections = detect_in_tiles(windows, None, Tiling(tile, overlap), red_squares, CATEGORIES, 0.5)
    assert detections.scores.tolist() == sorted(detections.scores.tolist(), reverse=True)
    truth = torch.tensor(boxes, dtype=torch.float32)
    distances = (detections.boxes[:, None] - truth[None]).abs().amax(dim=2)
    assert (distances <= 1).sum(dim=0).tolist() == [1] * len(boxes)
    assert len(detections) == len(boxes)


SCENES = {
    "in the overlap of two": [(85, 30, 95, 40)],
    "cut by a border": [(60, 30, 120, 60)],
    "cut by two borders": [(60, 60, 120, 120)],
    "over three tiles": [(20, 30, 300, 60)],
    "larger than a tile": [(100, 100, 350, 380)],
    "side by side at a seam": [(60, 30, 79, 50), (81, 30, 100, 50), (102, 30, 121, 50)],
    "small beside large": [(30, 30, 200, 200), (205, 150, 215, 160), (205, 165, 215, 175)],
}


@pytest.mark.parametrize("name", SCENES)
def test_every_object_is_found_once_across_seams(name: str) -> None:
    assert_found_once(SCENES[name], tile=100)


@pytest.mark.parametrize("seed", range(5))
def test_many_objects_are_found_once_each_wherever_the_seams_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes = []
    for row in range(8):
        left = int(random.integers(1, 10))
        while left < 440:
            width, height = random.integers(4, 50, 2)
            boxes.append((left, 48 * row + 1, int(left + width), int(48 * row + 1 + min(height, 45))))
            left += int(width) + int(random.integers(2, 20))
    assert_found_once(boxes, tile=int(random.integers(64, 200)), overlap=0.3)


def test_files_are_drawn_smaller_where_they_are_huge(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.inference.tiles.DRAWN_PIXELS", 120 * 150)
    Image.fromarray(picture(240, 300)).save(tmp_path / "a.bmp")
    (tmp_path / "b.bmp").write_bytes(b"no picture")
    good, bad = detect_files_tiled(predictor, [tmp_path / "a.bmp", tmp_path / "b.bmp"], Tiling(128), 0.2, 2)
    assert isinstance(bad, UserError)
    assert isinstance(good, tuple)
    image, detections = good
    assert image.shape == (120, 150, 3)
    assert detections.image_size == (240, 300)
    assert torch.allclose(fitted(detections, (120, 150)).boxes, detections.boxes / 2)
    assert fitted(detections, (240, 300)) is detections


def test_a_picture_with_tiles_may_be_four_times_as_large_unless_the_setting_says_otherwise() -> None:
    assert most_pixels(InputConfig()) == 4 * InputConfig().max_pixels > 12000 * 9000
    assert most_pixels(InputConfig(max_pixels=1000)) == 1000
