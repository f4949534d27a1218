"""Transforms of albumentations by name: validated at once, repeatable, and boxes that follow the picture."""

from typing import Any

import numpy as np
import pytest
import torch

from detector.datasets.pictures.named_transforms import NamedTransforms
from detector.errors import UserError

BOXES = torch.tensor([[10.25, 20.5, 40.75, 60.125], [70.0, 5.0, 90.0, 30.0]], dtype=torch.float64)
LABELS = torch.tensor([3, 8])


def picture() -> np.ndarray:
    """White where a box is, so that the picture says where the boxes must be."""
    image = np.zeros((80, 100, 3), np.uint8)
    for x1, y1, x2, y2 in BOXES.round().int().tolist():
        image[y1:y2, x1:x2] = 255
    return image


def apply(*entries: Any, seed: int = 0) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    return NamedTransforms(entries)(picture(), BOXES, LABELS, np.random.default_rng(seed))


def test_boxes_move_with_the_picture() -> None:
    image, boxes, labels = apply({"HorizontalFlip": {"p": 1.0}}, {"Transpose": {"p": 1.0}})
    assert image.shape == (100, 80, 3)
    assert labels.tolist() == [3, 8]
    expected = torch.stack((BOXES[:, 1], 100 - BOXES[:, 2], BOXES[:, 3], 100 - BOXES[:, 0]), dim=1)
    assert boxes.dtype == torch.float64
    assert torch.allclose(boxes, expected, atol=1e-4)
    for x1, y1, x2, y2 in boxes.round().int().tolist():
        assert image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() == 255


def test_transforms_of_colours_leave_boxes_exact() -> None:
    image, boxes, labels = apply("ToGray", {"GaussianBlur": {"sigma_limit": [1.0, 2.0], "p": 1.0}})
    assert not np.array_equal(image, picture())
    assert torch.equal(boxes, BOXES)
    assert torch.equal(labels, LABELS)


def test_boxes_that_leave_the_picture_take_their_labels_along() -> None:
    _, boxes, labels = apply({"Crop": {"x_min": 60, "y_min": 0, "x_max": 100, "y_max": 80, "p": 1.0}})
    assert labels.tolist() == [8]
    assert torch.allclose(boxes, torch.tensor([[10.0, 5.0, 30.0, 30.0]], dtype=torch.float64), atol=1e-4)


def test_pictures_without_boxes() -> None:
    transforms = NamedTransforms([{"Rotate": {"p": 1.0}}])
    _, boxes, labels = transforms(picture(), BOXES[:0], LABELS[:0], np.random.default_rng(0))
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_the_generator_decides_whatever_went_before() -> None:
    transforms = NamedTransforms([{"Affine": {"rotate": [-45, 45], "p": 1.0}}])
    results = [transforms(picture(), BOXES, LABELS, np.random.default_rng(seed))[0] for seed in (1, 2, 1)]
    assert np.array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


def test_the_order_is_that_of_the_list() -> None:
    crop: dict[str, Any] = {"Crop": {"x_min": 0, "y_min": 0, "x_max": 50, "y_max": 50, "p": 1.0}}
    flip: dict[str, Any] = {"HorizontalFlip": {"p": 1.0}}
    assert not np.array_equal(apply(crop, flip)[0], apply(flip, crop)[0])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("GausianBlur", "no transform 'GausianBlur'; did you mean GaussianBlur"),
        ("os.system", "no transform 'os.system'"),
        ({"GaussianBlur": {"sigma_limits": 3}}, "no argument 'sigma_limits'; did you mean sigma_limit; it takes"),
        ({"GaussianBlur": {"p": 7}}, r"GaussianBlur refuses \{'p': 7\}: .*less than or equal to 1"),
        ({"Blur": {}, "ToGray": {}}, "is not a name, nor a name with its arguments"),
        (3, "is not a name, nor a name with its arguments"),
        ({"Blur": 3}, "is not a name, nor a name with its arguments"),
        ({"Normalize": {"p": 1.0}}, "of float32 of a picture; leave out what normalises"),
        ("MaskDropout", "they fail on a picture with a box"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(entry: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        NamedTransforms([entry])
