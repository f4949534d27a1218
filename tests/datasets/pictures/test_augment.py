import subprocess
import sys

import numpy as np
import torch
from torch import Tensor

from detector.config import AugmentConfig
from detector.datasets.pictures.augment import jitter_color, random_crop

BOXES = torch.tensor([[2.0, 3.0, 12.0, 9.0], [20.0, 10.0, 30.0, 24.0], [0.0, 0.0, 40.0, 30.0]], dtype=torch.float64)
LABELS = torch.tensor([5, 6, 7])


def coordinates(height: int = 30, width: int = 40) -> np.ndarray:
    """A picture whose pixels say where they came from."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x, y, np.zeros_like(x)), axis=2).astype(np.uint8)


def crop(seed: int, boxes: Tensor = BOXES, min_scale: float = 0.3) -> tuple[np.ndarray, Tensor, Tensor]:
    return random_crop(coordinates(), boxes, LABELS[: len(boxes)], min_scale, np.random.default_rng(seed))


def test_crops_keep_a_centre_and_move_boxes_with_the_image() -> None:
    left_out = 0
    for seed in range(100):
        image, boxes, labels = crop(seed)
        height, width = image.shape[:2]
        left, top = (int(value) for value in image[0, 0, :2])
        assert height >= 9
        assert width >= 12
        assert len(boxes) >= 1
        kept = [5, 6, 7] if len(boxes) == 3 else labels.tolist()
        assert kept == labels.tolist()
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            x1, y1, x2, y2 = BOXES[label - 5].tolist()
            expected = [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height)]
            assert box == expected
            assert left <= (x1 + x2) / 2 <= left + width
        for label in {5, 6, 7} - set(labels.tolist()):
            x1, y1, x2, y2 = BOXES[label - 5].tolist()
            assert not (left < (x1 + x2) / 2 < left + width and top < (y1 + y2) / 2 < top + height)
            left_out += 1
    assert left_out > 50


def test_crops_of_pictures_without_boxes() -> None:
    image, boxes, labels = crop(0, BOXES[:0])
    assert image.size > 0
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_boxes_outside_the_picture_do_not_guide_a_crop() -> None:
    outside = torch.tensor([[50.0, 50.0, 60.0, 60.0]], dtype=torch.float64)
    assert crop(0, outside)[1].shape == (0, 4)


def test_a_crop_of_everything_is_the_picture() -> None:
    image, boxes, _ = crop(0, min_scale=1.0)
    assert np.array_equal(image, coordinates())
    assert torch.equal(boxes, BOXES)


def test_a_picture_of_one_pixel_can_be_cropped() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    image, kept, _ = random_crop(np.zeros((1, 1, 3), np.uint8), boxes, LABELS[:1], 0.1, np.random.default_rng(0))
    assert image.shape == (1, 1, 3)
    assert torch.equal(kept, boxes)


def test_color_jitter_is_a_function_of_its_generator() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    before = image.copy()
    config = AugmentConfig()
    made = [jitter_color(image, config, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert made[0].dtype == np.uint8
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0], image)
    assert np.array_equal(image, before)


def test_color_jitter_of_nothing_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    still = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0)
    assert np.array_equal(jitter_color(image, still, np.random.default_rng(0)), image)


def test_brightness_stays_within_its_range() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    config = AugmentConfig(brightness=0.2, contrast=0, saturation=0, hue=0)
    values = [int(jitter_color(image, config, np.random.default_rng(seed)).max()) for seed in range(40)]
    assert min(values) >= 80
    assert max(values) <= 120
    assert max(values) - min(values) > 25


def test_the_default_path_does_not_import_albumentations() -> None:
    code = (
        "import sys, numpy as np\n"
        "from detector.config import AugmentConfig, InputConfig\n"
        "from detector.datasets.loading import loader\n"
        "from detector.datasets.pictures.transforms import TrainTransform\n"
        "from detector.structures import Sample\n"
        "none = Sample(1, 'x', None, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool))\n"
        "transform = TrainTransform(InputConfig(), AugmentConfig())\n"
        "transform(np.zeros((9, 9, 3), np.uint8), none, np.random.default_rng(0))\n"
        "assert 'albumentations' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_albumentations_does_not_call_home() -> None:
    """Told not to before it is imported; a user's own choice stands."""
    code = (
        "import os, numpy as np\n"
        "os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "from detector.config import AugmentConfig\n"
        "from detector.datasets.pictures.augment import jitter_color\n"
        "import socket, urllib.request\n"
        "def refuse(*args, **kwargs): raise AssertionError('network')\n"
        "urllib.request.OpenerDirector.open = socket.getaddrinfo = refuse\n"
        "jitter_color(np.zeros((4, 4, 3), np.uint8), AugmentConfig(), np.random.default_rng(0))\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], check=True, timeout=120)
