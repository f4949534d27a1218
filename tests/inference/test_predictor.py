"""Prediction as users meet it: every form of a picture, lists, thresholds, frames, and the sentences for mistakes."""

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import random_batch, tiny_config, tiny_model

import detector
from detector.categories import Category, CategoryMap
from detector.config import Config
from detector.datasets.pictures.read import image_size
from detector.datasets.pictures.transforms import prepare_for_test
from detector.errors import UserError
from detector.evaluation.coco_eval import evaluate_coco
from detector.inference.detections import Detections
from detector.inference.predictor import Predictor
from detector.inference.sources import as_rgb
from detector.model.postprocess import to_original_frame
from detector.structures import ImageBatch, Size
from detector.weights.files import save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "dog"), Category(90, "猫")))
LOW = 0.2  # random weights are not sure of anything


@pytest.fixture(scope="module")
def config() -> Config:
    return tiny_config(inputs={"min_size_test": 96, "max_size_test": 160})


@pytest.fixture(scope="module")
def weights(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {"trained_on": "noise"})
    return path


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Predictor:
    return detector.load(weights, device="cpu")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return random_batch([(height, width)], seed).pixels[0].permute(1, 2, 0).numpy().copy()


def bomb() -> bytes:
    """A PNG of a hundred bytes whose header announces 20000 × 20000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def to_png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def assert_same(a: Detections, b: Detections) -> None:
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.labels, b.labels)
    assert a.image_size == b.image_size


def test_load_brings_everything_from_one_file(predictor: Predictor, config: Config) -> None:
    assert predictor.config == config
    assert predictor.categories == CATEGORIES
    assert predictor.provenance == {"trained_on": "noise"}
    assert predictor.device == torch.device("cpu")
    assert not predictor.model.training


def test_the_same_picture_in_every_form(predictor: Predictor, tmp_path: Path) -> None:
    image = picture(90, 130)
    path = tmp_path / "picture.png"
    path.write_bytes(to_png(image))
    by_array = predictor.predict(image, score_threshold=LOW)
    assert len(by_array) > 3
    forms: list[Any] = [
        path,
        str(path),
        path.read_bytes(),
        Image.open(path),
        Image.fromarray(image),
        torch.from_numpy(image).permute(2, 0, 1),
        np.asfortranarray(image),
        np.concatenate((image, image[..., :1]), axis=2),  # an alpha channel is dropped
    ]
    for form in forms:
        assert_same(predictor.predict(form, score_threshold=LOW), by_array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_every_form(predictor: Predictor, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(picture(90, 130)).save(path, exif=exif)
    upright = as_rgb(path)
    assert upright.shape == ((130, 90, 3) if orientation >= 5 else (90, 130, 3))
    expected = predictor.predict(upright, score_threshold=LOW)
    assert expected.image_size == upright.shape[:2]
    for form in (str(path), path.read_bytes(), Image.open(path)):
        assert_same(predictor.predict(form, score_threshold=LOW), expected)


def test_gray_pictures(predictor: Predictor) -> None:
    gray = picture(90, 130)[..., 0]
    expected = predictor.predict(np.stack([gray] * 3, axis=2), score_threshold=LOW)
    for form in (gray, gray[..., None], torch.from_numpy(gray), torch.from_numpy(gray)[None], Image.fromarray(gray)):
        assert_same(predictor.predict(form, score_threshold=LOW), expected)


def test_pillow_images_of_other_modes() -> None:
    sixteen_bit = Image.fromarray(np.array([[0, 256, 65535]], np.uint16))
    assert as_rgb(sixteen_bit, bit_depth=16).tolist() == [[[0] * 3, [1] * 3, [255] * 3]]
    assert as_rgb(Image.new("RGBA", (2, 1), (1, 2, 3, 0))).tolist() == [[[1, 2, 3]] * 2]
    assert as_rgb(Image.new("1", (1, 1), 1)).tolist() == [[[255] * 3]]


def test_boxes_are_in_the_frame_of_the_original(predictor: Predictor, config: Config) -> None:
    image = picture(61, 203)  # the longest edge limits: 48×160, so x and y scale a little differently
    found = predictor.predict(image, score_threshold=0)
    pixels = prepare_for_test(image, config.input)
    size = (pixels.shape[0], pixels.shape[1])
    assert size == (48, 160)
    batch = ImageBatch(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None], [size], [(61, 203)], [0])
    with torch.inference_mode():
        expected = to_original_frame(predictor.network(batch)[0], size, (61, 203))
    assert len(found) > 3
    assert torch.equal(found.boxes, expected.boxes)
    assert found.image_size == (61, 203)
    assert found.boxes[:, 2].max() > 160  # not the input frame's
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([203, 61, 203, 61])).all()


def test_threshold(predictor: Predictor) -> None:
    image = picture(90, 130)
    everything = predictor.predict(image, score_threshold=0)
    threshold = float(everything.scores[2])
    assert len(predictor.predict(image, score_threshold=threshold)) == 3  # the limit itself is kept
    assert (everything.scores[:-1] >= everything.scores[1:]).all()
    nothing = predictor.predict(image, score_threshold=1)
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)
    assert nothing.names == []
    assert nothing.to_coco(1) == []
    assert np.array_equal(nothing.draw(image), image)


def test_a_list_gives_what_its_pictures_give(predictor: Predictor) -> None:
    images = [picture(90, 130, 1), picture(90, 130, 2), picture(64, 64, 3), picture(90, 130, 4), picture(130, 90, 5)]
    alone = [predictor.predict(image, score_threshold=LOW) for image in images]
    for found, expected in zip(predictor.predict(images, score_threshold=LOW, batch_size=1), alone, strict=True):
        assert_same(found, expected)
    together = predictor.predict(tuple(images), score_threshold=LOW, batch_size=3)
    for found, expected in zip(together, alone, strict=True):
        assert torch.equal(found.labels, expected.labels)
        assert torch.allclose(found.boxes, expected.boxes, atol=1e-3)
        assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    assert predictor.predict([]) == []


def test_only_equal_sizes_share_a_pass(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[Size]] = []
    forward: Callable[[ImageBatch], Any] = predictor.network.forward

    def record(batch: ImageBatch) -> Any:
        passes.append(batch.sizes)
        return forward(batch)

    monkeypatch.setattr(predictor.network, "forward", record)
    sizes = [(96, 128), (96, 128), (96, 128), (96, 96), (96, 128)]
    predictor.predict([picture(*size) for size in sizes], batch_size=2)
    assert passes == [[(96, 128)] * 2, [(96, 128)], [(96, 96)], [(96, 128)]]


@pytest.mark.parametrize("fast", [True, False])
def test_results_are_plain_tensors_without_a_gradient(weights: Path, fast: bool) -> None:
    found = detector.load(weights, device="cpu", fast=fast).predict(picture(90, 130), score_threshold=LOW)
    assert len(found) > 0
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (torch.float32, torch.float32, torch.int64)
    for tensor in (found.boxes, found.scores, found.labels):
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad  # the plain network's would, but for inference mode
        assert not tensor.is_inference()
        tensor.mul_(2)  # tensors made in inference mode would refuse


def test_the_order_of_colours_in_arrays(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(to_png(picture(90, 130)))
    expected = predictor.predict(path, score_threshold=LOW)
    by_opencv = cv2.imread(str(path))
    assert by_opencv is not None
    assert_same(predictor.predict(by_opencv, score_threshold=LOW, channels="bgr"), expected)
    tensor = torch.from_numpy(by_opencv).permute(2, 0, 1)
    assert_same(predictor.predict([tensor], score_threshold=LOW, channels="bgr")[0], expected)
    assert_same(predictor.predict(path, score_threshold=LOW, channels="bgr"), expected)  # a file knows its own
    assert not torch.equal(predictor.predict(by_opencv, score_threshold=LOW).scores, expected.scores)
    drawn = expected.draw(path)
    assert np.array_equal(expected.draw(by_opencv, channels="bgr"), drawn[..., ::-1])
    with pytest.raises(UserError, match="channels='BGR': choose rgb, or bgr"):
        predictor.predict(by_opencv, channels="BGR")  # type: ignore[call-overload]


def test_calling_the_predictor_is_predicting(predictor: Predictor) -> None:
    pictures = [picture(80, 100), picture(60, 90, seed=1)]
    assert predictor.names == ["cat", "dog", "猫"]
    assert_same(predictor(pictures[0], score_threshold=LOW), predictor.predict(pictures[0], score_threshold=LOW))
    assert [len(one) for one in predictor(pictures, score_threshold=1.0)] == [0, 0]


def test_detections_know_the_picture_that_was_given(predictor: Predictor) -> None:
    pictures = [picture(80, 100), picture(60, 90, seed=1), picture(60, 90, seed=2)]
    for image, detections in zip(pictures, predictor(pictures, score_threshold=LOW, batch_size=2), strict=True):
        assert detections.picture is not None
        assert detections.picture.source is image  # and no copy of it
        assert np.array_equal(detections.draw(), detections.draw(image))


def test_evaluating_gives_what_the_command_gives(predictor: Predictor, tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.png", "height": 80, "width": 100} for i in (1, 2)]
    for image in images:
        (tmp_path / image["file_name"]).write_bytes(to_png(picture(80, 100, seed=image["id"])))
    found = [predictor(tmp_path / image["file_name"], score_threshold=0) for image in images]
    annotations = [entry for image, one in zip(images, found, strict=True) for entry in one[:3].to_coco(image["id"])]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES.to_coco()}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    metrics = predictor.evaluate(tmp_path / "truth.json", tmp_path, progress=False)
    results = [entry for image, one in zip(images, found, strict=True) for entry in one.to_coco(image["id"])]
    assert metrics == evaluate_coco(content, results)
    assert metrics.AP > 0.5
    assert metrics == predictor.evaluate(str(tmp_path / "truth.json"), str(tmp_path), 2, "hotcoco", progress=False)


def test_detections_of_a_picture() -> None:
    found = Detections(
        torch.tensor([[10.0, 20.0, 30.5, 60.0], [1.0, 2.0, 3.0, 4.0]]),
        torch.tensor([0.75, 0.5]),
        torch.tensor([3, 1]),
        (80, 100),
        CATEGORIES,
    )
    assert len(found) == 2
    assert found.names == ["猫", "cat"]
    assert repr(found) == "Detections(2 in 80×100: 猫 0.75, cat 0.50)"
    assert found.at_least(0.75).names == ["猫"]
    assert len(found.at_least(0.76)) == 0
    coco = found.to_coco(12)
    assert coco[0] == {"image_id": 12, "category_id": 90, "bbox": [10.0, 20.0, 20.5, 40.0], "score": 0.75}
    assert json.loads(json.dumps(coco)) == coco
    image = np.full((80, 100, 3), 9, np.uint8)
    drawn = found.draw(to_png(image))
    assert drawn.shape == (80, 100, 3)
    assert not np.array_equal(drawn, image)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), "must hold uint8 values 0 to 255, not float32"),
        (torch.zeros(3, 4, 4), "must hold uint8 values 0 to 255, not torch.float32"),
        (torch.zeros(3, 4, 4, dtype=torch.bfloat16), "must hold uint8 values 0 to 255, not torch.bfloat16"),
        (np.zeros((3, 8, 8), np.uint8), r"as array must have the shape \[H, W, 3\], not \[3, 8, 8\]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"as tensor must have the shape \[3, H, W\], not \[8, 8, 3\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"not \[1, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"not \[0, 4, 3\]"),
        (np.zeros(5, np.uint8), r"not \[5\]"),
        (None, "cannot be a NoneType; give a path"),
        ({"image": 1}, "cannot be a dict; give a path"),
        ("nowhere.jpg", "nowhere.jpg"),
        (b"not a picture", "not a picture of a known format"),
        (b"", "the given bytes"),
        (bomb(), "pixels.*Shrink or tile the picture"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), "floating-point"),
    ],
)
def test_what_is_no_picture(predictor: Predictor, source: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        predictor.predict(source)
    with pytest.raises(UserError, match=sentence):
        predictor.predict([source])


@pytest.mark.parametrize("tile", [None, 64])
def test_of_a_list_it_is_said_which_is_no_picture(predictor: Predictor, tmp_path: Path, tile: int | None) -> None:
    with pytest.raises(UserError, match=r"^source\[1\]: a picture given as array must hold uint8"):
        predictor.predict([picture(8, 8), picture(8, 8).astype(np.float32)], tile=tile)
    with pytest.raises(UserError, match=r"^source\[0\]: the given bytes: not a picture"):
        predictor.predict([b"no picture", picture(8, 8)], tile=tile)
    with pytest.raises(UserError, match=rf"^{tmp_path}/none\.jpg: cannot read"):  # which has a name
        predictor.predict([picture(8, 8), tmp_path / "none.jpg"], tile=tile)


def test_what_stands_for_many_pictures_is_for_streams(predictor: Predictor, tmp_path: Path) -> None:
    for source in (tmp_path, f"{tmp_path}/*.png", "https://example.org/a.jpg"):
        with pytest.raises(UserError, match=r"is no picture; predict\(…, stream=True\) takes folders, patterns"):
            predictor.predict(source)
    with pytest.raises(UserError, match="with stream=True anything that gives them one by one"):
        predictor.predict(iter([picture(8, 8)]))


def test_the_predictor_in_a_line(predictor: Predictor) -> None:
    assert repr(predictor) == "Predictor(ResNet-18-C4, 3 classes, cpu, float32)"


def test_a_truncated_pillow_image(predictor: Predictor) -> None:
    data = to_png(picture(90, 130))
    with pytest.raises(UserError, match="cannot be decoded"):
        predictor.predict(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_settings_out_of_range(predictor: Predictor) -> None:
    with pytest.raises(UserError, match=r"score_threshold=1.5: choose 0 to 1"):
        predictor.predict(picture(8, 8), score_threshold=1.5)
    with pytest.raises(UserError, match=r"score_threshold=nan"):
        predictor.predict(picture(8, 8), score_threshold=float("nan"))
    with pytest.raises(UserError, match="batch_size=0: choose 1 or more"):
        predictor.predict([picture(8, 8)], batch_size=0)


def test_extreme_sizes(predictor: Predictor) -> None:
    for size in ((1, 1), (1, 2), (2, 1), (30, 750), (700, 3)):
        found = predictor.predict(picture(*size), score_threshold=0)
        assert found.image_size == size


def test_weights_that_do_not_fit_their_config(config: Config, tmp_path: Path) -> None:
    state = tiny_model(config).state_dict()
    del state["rpn.conv.bias"]
    save_weights(tmp_path / "torn.safetensors", state, config, CATEGORIES, {})
    with pytest.raises(UserError, match=r"not those of the model that .* \(missing \(1\): rpn\.conv\.bias\)"):
        detector.load(tmp_path / "torn.safetensors", device="cpu")


def test_settings_that_describe_another_model(weights: Path) -> None:
    with pytest.raises(UserError, match=r"do not fit the model \(.*rpn\.conv\.weight is .*use the config that it was"):
        detector.load(weights, device="cpu", overrides=["model.rpn.channels=7"])


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.safetensors"):
        detector.load(tmp_path / "missing.safetensors", device="cpu")


def test_import_does_no_work() -> None:
    code = "import sys, detector; print(detector.__version__, 'torch' in sys.modules, 'cv2' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [detector.__version__, "False", "False"]


def test_public_names() -> None:
    for name in detector.__all__:
        assert getattr(detector, name) is not None
    assert set(detector.__all__) <= set(dir(detector))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = detector.lod


def test_the_fast_execution_changes_nothing(predictor: Predictor) -> None:
    plain = Predictor(predictor.model, predictor.config, predictor.categories, fast=False)
    assert plain.network is predictor.model
    assert predictor.network is not predictor.model
    image = picture(90, 130)
    fast, slow = (one.predict(image, score_threshold=LOW) for one in (predictor, plain))
    assert len(fast) == len(slow) > 3
    assert torch.equal(fast.labels, slow.labels)
    assert torch.allclose(fast.boxes, slow.boxes, rtol=0, atol=1e-3)
    assert torch.allclose(fast.scores, slow.scores, rtol=0, atol=1e-5)


def test_bfloat16_finds_nearly_the_same(predictor: Predictor, weights: Path) -> None:
    near = detector.load(weights, device="cpu", precision="bfloat16")
    image = picture(90, 130)
    found, expected = (one.predict(image, score_threshold=LOW) for one in (near, predictor))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    in_bfloat16 = near.network.backbone.execution.dtype == torch.bfloat16  # float32 where a processor has no kernels
    assert torch.equal(found.scores, expected.scores) != in_bfloat16
    assert torch.allclose(found.scores[:3], expected.scores[:3], rtol=0, atol=0.05)


def test_the_plain_network_has_no_other_precision(weights: Path) -> None:
    with pytest.raises(UserError, match="belong to the fast execution"):
        detector.load(weights, device="cpu", fast=False, precision="bfloat16")
    with pytest.raises(UserError, match="belong to the fast execution"):
        detector.load(weights, device="cpu", fast=False, compiled=True)


def test_odd_pictures_are_right_or_one_sentence(predictor: Predictor, shared: Path) -> None:
    broken = {"broken.png", "truncated_image.png", "truncated_jpeg.jpg"}
    for path in sorted((shared / "data/odd_images").iterdir()):
        if path.name in broken:
            with pytest.raises(UserError, match=rf"{path.name}: [^\n]*\.$"):
                predictor.predict(path, score_threshold=LOW)
        else:
            found = predictor.predict(path, score_threshold=LOW)
            assert found.image_size == image_size(path)
            assert found.boxes.isfinite().all()
