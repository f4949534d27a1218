"""Broken pictures: decoded, or refused in one sentence that names the file."""

import io
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from fuzzing import mutate_bytes, seeds, survive
from PIL import Image

from detector.datasets.pictures.read import image_size, read_image, stored_size

# Enough for the good pictures. A broken header may claim more, and is then refused before anything is decoded.
MAX_PIXELS = 2**20


def noise(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 4), dtype=np.uint8)
    smooth = Image.fromarray(pixels).resize((80, 48), Image.Resampling.BICUBIC)
    return smooth.convert("RGB").convert(mode) if mode != "RGBA" else smooth


def encoded(mode: str, kind: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    if kind in ("JPEG", "PNG", "WEBP"):
        options["exif"] = exif
    noise(mode).save(file, kind, **options)
    return file.getvalue()


PICTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "baseline.jpg": ("RGB", "JPEG", {}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True}),
    "gray.jpg": ("L", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "rgb.png": ("RGB", "PNG", {}),
    "rgba.png": ("RGBA", "PNG", {}),
    "palette.png": ("P", "PNG", {"transparency": 3}),
    "sixteen.png": ("I;16", "PNG", {}),
    "lossy.webp": ("RGBA", "WEBP", {}),
    "lossless.webp": ("RGB", "WEBP", {"lossless": True}),
    "raw.tif": ("RGB", "TIFF", {}),
    "deflate.tif": ("RGB", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg.tif": ("RGB", "TIFF", {"compression": "jpeg"}),
    "palette.gif": ("P", "GIF", {}),
    "moving.gif": ("P", "GIF", {"save_all": True, "append_images": [Image.new("P", (80, 48), 1)]}),
    "rgb.bmp": ("RGB", "BMP", {}),
    "rgb.ppm": ("RGB", "PPM", {}),
    "rgb.jp2": ("RGB", "JPEG2000", {}),
}


def good(name: str) -> bytes:
    mode, kind, options = PICTURES[name]
    if mode == "I;16":
        file = io.BytesIO()
        Image.fromarray(np.asarray(noise("L")).astype(np.uint16) * 16).save(file, kind, **options)
        return file.getvalue()
    return encoded(mode, kind, **options)


def survive_all(path: Path, seed: int) -> None:
    survive(lambda: read_image(path, MAX_PIXELS, bit_depth=12), path.name, seed)
    survive(lambda: image_size(path), path.name, seed)
    survive(lambda: stored_size(path), path.name, seed)


@pytest.mark.parametrize("name", PICTURES)
def test_unbroken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(good(name))
    assert survive(lambda: read_image(tmp_path / name, MAX_PIXELS, bit_depth=12), name, 0) is None


@pytest.mark.parametrize("numbers", seeds(2, 30))
@pytest.mark.parametrize("name", PICTURES)
def test_bytes(tmp_path: Path, name: str, numbers: range) -> None:
    data, path = good(name), tmp_path / name
    for seed in numbers:
        path.write_bytes(mutate_bytes(data, Random(seed)))
        survive_all(path, seed)


@pytest.mark.slow
def test_real_pictures(tmp_path: Path, shared: Path) -> None:
    files = sorted((shared / "data/odd_images").iterdir())
    assert files
    for file in files:
        data, path = file.read_bytes(), tmp_path / file.name
        for seed in range(5 if len(data) < 100_000 else 2):
            path.write_bytes(mutate_bytes(data, Random(seed)))
            survive(lambda path=path: read_image(path, 2**22), path.name, seed)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_a_header_that_claims_everything(tmp_path: Path, kind: str) -> None:
    """Without a limit of the caller's: the default one refuses it before memory is claimed."""
    path = tmp_path / f"claims.{kind.lower()}"
    headers = {
        "PPM": b"P6 60000 60000 255\n" + bytes(100),
        "BMP": _with_size(encoded("RGB", "BMP"), 18, "little"),
        "PNG": _with_size(encoded("RGB", "PNG"), 16, "big"),
        "TIFF": encoded("RGB", "TIFF")
        .replace(b"\x50\x00\x00\x00", b"\x60\xea\x00\x00")
        .replace(b"\x50\x00", b"\x60\xea"),
    }
    path.write_bytes(headers[kind])
    survive(lambda: read_image(path), path.name, 0)


def _with_size(data: bytes, place: int, order: Any) -> bytes:
    return data[:place] + (60_000).to_bytes(4, order) * 2 + data[place + 8 :]
