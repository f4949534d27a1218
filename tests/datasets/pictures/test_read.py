import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from detector.datasets.pictures.read import ImageError, depth_in_use, from_pil, image_size, read_image
from detector.datasets.pictures.wide import _warn_of_guess

# What the folder's own README calls undecodable; every other picture there must be read.
UNDECODABLE = {"broken.png", "truncated_image.png", "truncated_jpeg.jpg"}


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    return block


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def test_odd_pictures_are_read_or_refused_in_one_sentence(shared: Path) -> None:
    paths = sorted((shared / "data" / "odd_images").iterdir())
    assert len(paths) == 29
    for path in paths:
        if path.name in UNDECODABLE:
            with pytest.raises(ImageError, match=r"^.*(Replace or remove)[^\n]*\.$") as caught:
                read_image(path)
            assert str(path) in str(caught.value)
            continue
        image = read_image(path, bit_depth=12)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.shape == (*image_size(path), 3)
        assert np.array_equal(image, read_image(path.read_bytes(), bit_depth=12))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_pixels_equal_pillows_on_real_pictures(shared: Path) -> None:
    folders = ("odd_images", "coco_excerpt/val2017", "bccd/images")
    paths = [path for folder in folders for path in sorted((shared / "data" / folder).iterdir())[:30]]
    compared = 0
    for path in paths:
        data = path.read_bytes()
        if path.name in UNDECODABLE or Image.open(io.BytesIO(data)).mode.startswith("I"):
            continue
        assert np.array_equal(read_image(path), pillow(data)), path.name
        compared += 1
    assert compared > 60


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int, kind: str) -> None:
    data = encode(Image.fromarray(noise(20, 30)), kind, exif=exif(orientation))
    image = read_image(data)
    assert np.array_equal(image, pillow(data))
    assert image.shape[:2] == ((30, 20) if orientation >= 5 else (20, 30))
    assert image_size(data) == image.shape[:2]


def test_orientation_8_by_hand() -> None:
    """Stored with its top to the right: what was the last column comes first, as a row."""
    stored = np.array([[[1, 1, 1], [2, 2, 2]]], np.uint8)
    data = encode(Image.fromarray(stored), "PNG", exif=exif(8))
    assert read_image(data)[..., 0].tolist() == [[2], [1]]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_illegal_orientations_count_as_upright(orientation: int) -> None:
    pixels = noise(20, 30)
    data = encode(Image.fromarray(pixels), "PNG", exif=exif(orientation))
    assert np.array_equal(read_image(data), pixels)
    assert image_size(data) == (20, 30)


def test_orientation_behind_the_pixels_of_a_png_is_found() -> None:
    plain = encode(Image.fromarray(noise(20, 30)), "PNG")
    block = png_chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    end = plain.rindex(b"IEND") - 4
    data = plain[:end] + block + plain[end:]
    assert read_image(data).shape == (30, 20, 3)
    assert image_size(data) == (30, 20)


def test_header_is_enough_for_a_size(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        data = encode(Image.fromarray(noise(200, 300)), kind, exif=exif(6))
        path = tmp_path / "cut"
        path.write_bytes(data[: len(data) // 2])
        assert image_size(path) == (300, 200)
        with pytest.raises(ImageError, match="cut: cannot be decoded"):
            read_image(path)


def test_gray_and_alpha() -> None:
    gray = noise(4, 5, 1)[..., 0]
    assert np.array_equal(read_image(encode(Image.fromarray(gray), "PNG")), np.repeat(gray[..., None], 3, axis=2))
    colors = noise(4, 5, 4)  # alpha is dropped, not blended
    assert np.array_equal(read_image(encode(Image.fromarray(colors), "PNG")), colors[..., :3])


@pytest.mark.parametrize(("depth", "shift"), [(8, 0), (10, 2), (12, 4), (14, 6), (16, 8)])
@pytest.mark.parametrize("kind", ["gray.png", "gray.tiff", "gray.pgm", "color.png", "color.tiff", "color.ppm"])
def test_pictures_of_16_bits_keep_the_upper_8_of_the_bits_in_use(kind: str, depth: int, shift: int) -> None:
    largest = 2**depth - 1
    values = np.array([[[0, 17, largest], [largest // 3, 1, 2]]], np.uint16)
    if kind.startswith("gray"):
        values = values[..., 0:1].repeat(3, axis=2)
    image = read_image(sixteen_bits(values, kind), bit_depth=depth)
    assert image.tolist() == (values >> shift).tolist()


@pytest.mark.parametrize(("depth", "largest"), [(12, 4095), (16, 65535)])
def test_colors_of_16_bits_in_a_jpeg2000(depth: int, largest: int) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (4, 6, 3))
    values = (cv2.resize(values, (60, 40)) * largest).astype(np.uint16)
    values[20:, :30] = largest
    data = cv2.imencode(".jp2", values[..., ::-1])[1].tobytes()
    assert depth_in_use(data) == depth
    difference = np.abs(read_image(data).astype(int) - (values >> (depth - 8)))
    assert difference.max() <= 4  # its compression is lossy


def test_values_above_the_depth_are_white() -> None:
    values = np.array([[[4095, 4096, 65535]]], np.uint16)
    assert read_image(sixteen_bits(values, "color.png"), bit_depth=12).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("kind", ["gray.png", "color.png"])
def test_a_depth_that_is_guessed_is_said_and_does_not_follow_a_hot_pixel(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.full((40, 50, 3), 4000, np.uint16)
    values[7, 9] = 65535
    _warn_of_guess.cache_clear()
    image = read_image(sixteen_bits(values, kind))
    assert image[0, 0].tolist() == [250] * 3
    assert image[7, 9].tolist() == [255] * 3
    assert np.array_equal(read_image(sixteen_bits(values, kind)), image)
    assert ["set input.bit_depth" in message for message in caplog.messages] == [True]  # once
    assert depth_in_use(sixteen_bits(values, kind)) == 12


def test_files_that_state_their_largest_value_need_no_guess() -> None:
    for kind, channels in (("P5", 1), ("P6", 3)):
        values = np.full((2, 2, channels), 2047, np.uint16)
        data = f"{kind} 2 2 4095\n".encode() + values.astype(">u2").tobytes()
        assert read_image(data).tolist() == [[[127] * 3] * 2] * 2
        assert depth_in_use(data) is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["color.png", "color.tiff"])
def test_colors_of_16_bits_are_turned_upright(kind: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (3, 5, 3), dtype=np.uint16)
    upper = Image.fromarray((values >> 4).astype(np.uint8))
    expected = pillow(encode(upper, "PNG", exif=exif(orientation)))
    assert np.array_equal(read_image(sixteen_bits(values, kind, orientation), bit_depth=12), expected)


def test_pictures_of_8_bits_have_no_depth_to_guess() -> None:
    for kind in ("JPEG", "PNG", "TIFF", "BMP"):
        assert depth_in_use(encode(Image.fromarray(noise(4, 5)), kind)) is None


def sixteen_bits(values: np.ndarray, kind: str, orientation: int = 1) -> bytes:
    """[H, W, 3] uint16 as a file; `gray` takes the first channel."""
    pixels = values[..., 0] if kind.startswith("gray") else values[..., ::-1]
    suffix = kind[kind.index(".") :]
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    if orientation == 1:
        return data
    if suffix == ".png":
        end = data.index(b"IDAT") - 4
        return data[:end] + png_chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0")) + data[end:]
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    entries = [data[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    entries.append(struct.pack("<HHII", 274, 3, 1, orientation))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2])[0])
    data += b"\0" * (len(data) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def test_floating_point_pictures_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point numbers has no set range"):
        read_image(encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


def test_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(np.full((3, 3), value, np.uint8)) for value in (10, 200)]
    image = read_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (image == 10).all()


def test_content_tells_the_format_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "ünï code.jpg"
    path.write_bytes(encode(Image.fromarray(noise(6, 7)), "WEBP", lossless=True))
    assert np.array_equal(read_image(path), noise(6, 7))


def test_decompression_bombs_are_refused_from_the_header() -> None:
    for edge in (20000, 10000):
        message = f"{edge}x{edge} pixels are more than the 89478485"
        header = struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0)  # 1-bit gray, and no pixels behind it
        data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b""))
        with pytest.raises(ImageError, match=f"{message}.*Shrink or tile the picture, or raise input.max_pixels"):
            read_image(data)
        assert image_size(data) == (edge, edge)
    data = encode(Image.fromarray(noise(11, 10)), "PNG")
    with pytest.raises(ImageError, match="10x11 pixels are more than the 100 allowed"):
        read_image(data, max_pixels=100)
    assert read_image(data, max_pixels=110).shape == (11, 10, 3)


def test_the_limit_can_be_raised_beyond_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow refuses from twice as many on
    data = encode(Image.fromarray(noise(11, 10)), "PNG")
    assert read_image(data).shape == (11, 10, 3)
    assert read_image(data, max_pixels=2**31).shape == (11, 10, 3)
    assert image_size(data) == (11, 10)
    assert Image.MAX_IMAGE_PIXELS == 40


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        for function in (read_image, image_size):
            with pytest.raises(ImageError, match=rf"{name}: cannot read the picture \(it is a folder, pipe or device"):
                function(tmp_path / name)


def test_files_of_too_many_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.bmp"
    with open(path, "wb") as file:
        file.truncate(2**25)
    with pytest.raises(ImageError, match="has more than 16778816 bytes, more than a picture of 100 pixels needs"):
        read_image(path, max_pixels=100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the picture"),
        (b"", "not a picture of a known format, but an empty file"),
        (b"hello", "not a picture of a known format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "not a picture of a known format, but a HEIC picture"),
        (b"II*\0\x08\0\0\0\0\0", "not a picture of a known format, but a TIFF of numbers that are not read"),
        (b"%PDF-1.7", "not a picture of a known format, but a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS.* git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "is a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture of a known format"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    for function in (read_image, image_size):
        with pytest.raises(ImageError, match=rf"x\.jpg: {message}"):
            function(path)


def test_folders_and_impossible_paths(tmp_path: Path) -> None:
    for path in (tmp_path, "a\0b", "x" * 5000):
        with pytest.raises(ImageError, match="cannot read the picture"):
            read_image(path)


def test_damaged_jpegs_never_raise_anything_else(shared: Path) -> None:
    """300 altered or cut files: an array, or an ImageError."""
    rng = np.random.default_rng(5)
    whole = (shared / "data" / "odd_images" / "hopper_orientation_7.jpg").read_bytes()
    read, refusals = 0, []
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        cut = bytes(data[: rng.integers(1, len(data))]) if rng.random() < 0.3 else bytes(data)
        try:
            read += read_image(cut).ndim == 3
        except ImageError as error:
            refusals.append(str(error))
    assert read + len(refusals) == 300
    assert min(read, len(refusals)) > 50
    assert not any("\n" in message for message in refusals)


def test_pil_images_are_turned_upright() -> None:
    data = encode(Image.fromarray(noise(20, 30)), "PNG", exif=exif(6))
    assert np.array_equal(from_pil(Image.open(io.BytesIO(data))), read_image(data))
