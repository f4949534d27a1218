import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2_cases import inference_cases
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detector.config import AugmentConfig, InputConfig
from detector.datasets.pictures.sizes import resized_size
from detector.datasets.pictures.transforms import (
    TrainTransform,
    flip_horizontal,
    prepare_for_test,
    prepare_target,
    resize,
)
from detector.errors import UserError
from detector.structures import Sample, Size

PLAIN = AugmentConfig(horizontal_flip=0.0)
FLIP = AugmentConfig(horizontal_flip=1.0)
FIXED = InputConfig(min_size_train=(20,), max_size_train=1000)  # shortest edge 20: twice the pictures below


def sample(boxes: list[list[float]], crowd: tuple[int, ...] = ()) -> Sample:
    return Sample(
        image_id=3,
        path="x.png",
        size=(10, 16),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        labels=np.arange(1, len(boxes) + 1),
        iscrowd=np.isin(np.arange(len(boxes)), crowd),
    )


def noise(height: int = 10, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sizes_equal_detectron2s(references: Path) -> None:
    table = json.loads((references / "resize_shapes.json").read_text())
    assert table["columns"] == ["h", "w", "short_edge", "max_size", "new_h", "new_w"]
    assert len(table["rows"]) >= 300
    for height, width, min_size, max_size, *expected in table["rows"]:
        assert list(resized_size((height, width), min_size, max_size, "pil")) == expected


def test_sizes_equal_mmdetections(references: Path) -> None:
    table = json.loads((references.parent / "mmdetection" / "resize_shapes.json").read_text())
    assert table["columns"] == ["w", "h", "long", "short", "new_w", "new_h"]
    assert len(table["rows"]) >= 300
    for width, height, longest, shortest, *expected in table["rows"]:
        assert list(reversed(resized_size((height, width), shortest, longest, "cv2"))) == expected


def test_opencvs_resize_keeps_bytes_and_does_not_antialias() -> None:
    """What it does to a picture that shrinks: a line of every other pixel is the picture's own."""
    image = noise(30, 30)
    assert np.array_equal(resize(image, (10, 10), "cv2"), image[1::3, 1::3])
    assert np.array_equal(resize(image, (30, 30), "cv2"), image)
    larger = resize(image, (45, 60), "cv2")
    assert larger.dtype == np.uint8
    assert larger.shape == (45, 60, 3)
    assert np.array_equal(larger[..., ::-1], resize(image[..., ::-1].copy(), (45, 60), "cv2"))


@pytest.mark.parametrize(
    ("size", "min_size", "max_size", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),  # 1066.67 up
        ((640, 480), 800, 1333, (1067, 800)),
        ((500, 500), 800, 1333, (800, 800)),
        ((100, 1000), 800, 1333, (133, 1333)),  # the long edge rules
        ((3, 10), 0, 5, (3, 10)),  # 0: as it is
        ((1, 1000), 800, 1333, (1, 1333)),
        ((1, 3000), 800, 1333, (1, 1333)),  # never 0
        ((2, 5), 3, 100, (3, 8)),  # 7.5 up
    ],
)
def test_sizes_by_hand(size: Size, min_size: int, max_size: int, expected: Size) -> None:
    assert resized_size(size, min_size, max_size, "pil") == expected


def torchvision_transform(min_size: int, max_size: int, config: InputConfig) -> GeneralizedRCNNTransform:
    mean, std = ([value / 255 for value in values] for values in (config.pixel_mean, config.pixel_std))
    return GeneralizedRCNNTransform(min_size, max_size, mean, std, size_divisible=1)


def test_sizes_equal_torchvisions() -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        height, width = (int(edge) for edge in rng.integers(4, 90, 2))
        min_size, max_size = int(rng.integers(4, 120)), int(rng.integers(60, 200))
        theirs = torchvision_transform(min_size, max_size, InputConfig())([torch.zeros(3, height, width)])[0]
        assert resized_size((height, width), min_size, max_size, "torchvision") == theirs.image_sizes[0]


def test_pixels_equal_torchvisions_to_rounding() -> None:
    config = InputConfig(pixel_std=(58.395, 57.12, 57.375), resize="torchvision", min_size_test=60, max_size_test=100)
    mean, std = (torch.tensor(values) for values in (config.pixel_mean, config.pixel_std))
    for size in ((31, 47), (120, 90), (60, 77)):
        image = noise(*size)
        ours = prepare_for_test(image, config)
        assert ours.dtype == np.float32
        theirs = torchvision_transform(60, 100, config)([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
        expected = theirs.tensors[0].permute(1, 2, 0)
        torch.testing.assert_close((torch.from_numpy(ours.copy()) - mean) / std, expected, rtol=0, atol=2e-6)


def test_test_images_equal_the_published_lineages() -> None:
    """Network inputs measured in detectron2, from files that need no other decoder than PNG."""
    for case in [case for case in inference_cases() if case.has_stages]:
        settings = yaml.safe_load((case.folder / "config.yaml").read_text())["INPUT"]
        expected = case.arrays["image_u8_resized"].permute(1, 2, 0).numpy()
        config = InputConfig(min_size_test=settings["MIN_SIZE_TEST"], max_size_test=settings["MAX_SIZE_TEST"])
        image = np.asarray(Image.open(case.pictures[0]).convert("RGB"))
        rgb = expected if settings["FORMAT"] == "RGB" else expected[..., ::-1]
        assert np.array_equal(prepare_for_test(image, config), rgb), case


def test_flip_twice_is_nothing() -> None:
    image = noise()
    for layout in (image, resize(image, (30, 40), "pil"), resize(image, (30, 40), "torchvision")):
        flipped = flip_horizontal(layout)
        assert np.array_equal(flipped, layout[:, ::-1])
        assert np.array_equal(flip_horizontal(flipped), layout)


def test_boxes_move_with_the_image() -> None:
    """A white rectangle on black stays under its box; x and y scale by their own factors."""
    image = np.zeros((10, 16, 3), np.uint8)
    image[2:6, 3:11] = 255
    pixels, target = TrainTransform(FIXED, FLIP)(image, sample([[3, 2, 11, 6]]), generator())
    assert pixels.shape == (20, 32, 3)
    assert target.boxes.tolist() == [[10, 4, 26, 12]]  # 32 − 2·11, 2·2, 32 − 2·3, 2·6
    assert target.boxes.dtype == torch.float32
    inside = pixels[5:11, 11:25]
    assert (inside == 255).all()
    assert int(pixels.astype(np.int64).sum()) == pytest.approx(16 * 8 * 3 * 255, rel=0.1)

    # 10×15 to 20 and at most 25: factors 1.7 (17 / 10) and 5/3 (25 / 15)
    narrow = InputConfig(min_size_train=(20,), max_size_train=25)
    pixels, target = TrainTransform(narrow, PLAIN)(noise(10, 15), sample([[3, 2, 9, 10]]), generator())
    assert pixels.shape == (17, 25, 3)
    np.testing.assert_allclose(target.boxes.tolist(), [[5, 3.4, 15, 17]], rtol=1e-6)


def test_boxes_are_clipped_and_dropped() -> None:
    boxes = [[-5, -5, 4, 4], [20, 0, 30, 5], [1, 1, 2, 2], [3, 3, 3 + 1e-6, 9], [8, 8, 16, 10]]
    _, target = TrainTransform(FIXED, PLAIN)(noise(), sample(boxes, crowd=(2,)), generator())
    assert target.boxes.tolist() == [[0, 0, 8, 8], [16, 16, 32, 20]]
    assert target.labels.tolist() == [1, 5]
    assert target.labels.dtype == torch.int64


def test_targets_of_evaluation_are_not_augmented() -> None:
    target = prepare_target(sample([[1, 2, 3, 4], [0, 0, 16, 10]], crowd=(1,)), (20, 48), (10, 16))
    assert (target.boxes.tolist(), target.labels.tolist()) == ([[3, 4, 9, 8]], [1])


def test_images_without_boxes() -> None:
    everything = AugmentConfig(horizontal_flip=1, vertical_flip=1, crop=1)
    pixels, target = TrainTransform(FIXED, everything)(noise(), sample([]), generator())
    assert target.boxes.shape == (0, 4)
    assert target.labels.shape == (0,)
    assert min(pixels.shape[:2]) == 20


def test_a_transform_is_a_function_of_its_generator() -> None:
    augment = AugmentConfig(vertical_flip=0.5, crop=0.5, color_jitter=0.5)
    transform = TrainTransform(replace(FIXED, min_size_train=(16, 20, 24)), augment)
    given = sample([[1, 1, 9, 9], [4, 2, 15, 8]])
    image = noise()
    before = image.copy()
    seen = set()
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002 - the global generator must not matter
        first, first_target = transform(image, given, generator(seed))
        second, second_target = transform(image, given, generator(seed))
        assert np.array_equal(first, second)
        assert torch.equal(first_target.boxes, second_target.boxes)
        seen.add((first.shape, first.tobytes()))
    assert len(seen) > 15
    assert np.array_equal(image, before)
    assert given.boxes.tolist() == [[1, 1, 9, 9], [4, 2, 15, 8]]


def test_settings_do_not_disturb_each_others_draws() -> None:
    """Colour jitter on or off: the same pictures are flipped and resized the same way."""
    shapes = []
    for color_jitter in (0.0, 1.0):
        transform = TrainTransform(InputConfig(min_size_train=(16, 20, 24)), AugmentConfig(color_jitter=color_jitter))
        made = [transform(noise(), sample([[1, 1, 5, 5]]), generator(seed)) for seed in range(12)]
        shapes.append([(pixels.shape, target.boxes.tolist()) for pixels, target in made])
    assert shapes[0] == shapes[1]


def test_every_scale_is_chosen() -> None:
    transform = TrainTransform(InputConfig(min_size_train=(16, 20, 24)), AugmentConfig())
    heights = [transform(noise(), sample([]), generator(seed))[0].shape[0] for seed in range(60)]
    assert {heights.count(edge) > 8 for edge in (16, 20, 24)} == {True}


def test_named_transforms_move_boxes_before_the_resize_and_leave_other_draws_alone() -> None:
    named = replace(PLAIN, transforms=({"VerticalFlip": {"p": 1.0}},))
    image = noise(10, 15)
    plain_pixels, plain = TrainTransform(FIXED, PLAIN)(image, sample([[3, 2, 11, 6]]), generator())
    pixels, target = TrainTransform(FIXED, named)(image, sample([[3, 2, 11, 6]]), generator())
    assert np.array_equal(pixels, plain_pixels[::-1])
    height = pixels.shape[0]
    x1, y1, x2, y2 = plain.boxes[0].tolist()
    assert torch.allclose(target.boxes, torch.tensor([[x1, height - y2, x2, height - y1]]), atol=1e-3)


def test_named_transforms_that_cannot_be_used_are_refused_at_the_start() -> None:
    with pytest.raises(UserError, match="did you mean GaussianBlur"):
        TrainTransform(FIXED, replace(PLAIN, transforms=("GausianBlur",)))
