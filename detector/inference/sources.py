"""The forms in which a user may hand over a picture, and the one form in which it travels on."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detector.datasets.pictures.read import MAX_PIXELS, ImageError, from_pil, read_image
from detector.errors import UserError, shown
from detector.structures import Size

Picture = str | Path | bytes | np.ndarray | Image.Image | Tensor
Channels = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class GivenPicture:
    """A picture as a user handed it over: a reference, which is read again when it is needed.

    source: a path, bytes, an array, a PIL image or a tensor. channels: the order of colours of an array or tensor.
    max_pixels, bit_depth: of files and PIL images; see `read_image`.
    """

    source: Picture
    channels: Channels = "rgb"
    max_pixels: int = MAX_PIXELS
    bit_depth: int | None = None

    def rgb(self) -> np.ndarray:
        """The picture as [H, W, 3] uint8 RGB. Raises UserError where it cannot be read, or is gone."""
        return as_rgb(self.source, self.channels, self.max_pixels, self.bit_depth)


def check_channels(channels: Channels) -> None:
    """Raise UserError unless it is an order of colours: typed programs cannot give another word, all others can."""
    if channels not in ("rgb", "bgr"):
        raise UserError(f"channels={shown(channels)}: choose rgb, or bgr for what OpenCV reads.")


def in_order(rgb: np.ndarray, channels: Channels) -> np.ndarray:
    """An [H, W, 3] RGB array in another order of colours, contiguous."""
    return rgb if channels == "rgb" else np.ascontiguousarray(rgb[..., ::-1])


def as_rgb(
    source: Picture, channels: Channels = "rgb", max_pixels: int = MAX_PIXELS, bit_depth: int | None = None
) -> np.ndarray:
    """Any form of a picture as an [H, W, 3] uint8 RGB array.

    Args:
        source: a path or the bytes of an image file; an [H, W, 3] uint8 array; a PIL image; a [3, H, W] uint8 tensor.
            Files and PIL images are turned upright by their EXIF orientation. Gray arrays and tensors ([H, W] or one
            channel) are repeated to three channels; an alpha channel, the fourth, is dropped without blending.
        channels: the order of the colours in an array or tensor, which cannot be told from its numbers: `cv2.imread`
            and `cv2.VideoCapture` give "bgr", nearly all else "rgb". Files and PIL images know theirs.
        max_pixels, bit_depth: of files and PIL images; see `read_image`.

    Raises:
        UserError: the file cannot be read as a picture, the array is of another type or shape, or `channels` is
            another word.
    """
    check_channels(channels)
    if isinstance(source, (str, Path, bytes)):
        if not isinstance(source, bytes) and not os.path.isfile(source) and _stands_for_others(str(source)):
            raise UserError(f"{source}: is no picture; predict(…, stream=True) takes folders, patterns and addresses.")
        return read_image(source, max_pixels, bit_depth)
    if isinstance(source, Image.Image):
        return _from_pil(source, bit_depth)
    if isinstance(source, Tensor):
        return _three_channels(_from_tensor(source), channels)
    if isinstance(source, np.ndarray):
        return _three_channels(_from_array(source), channels)
    raise UserError(
        f"a picture cannot be a {type(source).__name__}; give a path, bytes, an [H, W, 3] uint8 RGB array, a PIL "
        "image, a [3, H, W] uint8 tensor, or a list of these; with stream=True anything that gives them one by one."
    )


def picture_of(
    known: GivenPicture | None, size: Size, image: Picture | None = None, channels: Channels | None = None
) -> tuple[np.ndarray, Channels]:
    """The picture of some detections, to draw on: [H, W, 3] uint8 RGB; and the order of colours that is wanted back.

    Args:
        known: the picture that was predicted on; None where nobody has said.
        size: (height, width) that it had.
        image: another one to take in its place, in any form that `predict` accepts.
        channels: the order of colours of an array or tensor given, and of what is returned; None for that of `known`.

    Raises:
        UserError: the picture is not known, cannot be read, or is of another size or form.
    """
    order: Channels = channels or (known.channels if known else "rgb")
    check_channels(order)
    if image is not None:
        return replace(known or GivenPicture(image), source=image, channels=order).rgb(), order
    if known is None:
        raise UserError("these detections do not know their picture; give it as the first argument.")
    rgb = known.rgb()
    if rgb.shape[:2] != size:
        raise UserError("the picture is no longer the one that was predicted on; give that as the first argument.")
    return rgb, order


@contextmanager
def named(source: Picture, number: int, count: int) -> Iterator[None]:
    """Inside, an error about one of several pictures says which, where it has no name of its own."""
    try:
        yield
    except UserError as error:
        if count == 1 or isinstance(source, (str, Path)):
            raise
        raise type(error)(f"source[{number}]: {error}") from None


def _stands_for_others(word: str) -> bool:
    """Whether a word that is no file means pictures elsewhere: a folder, a pattern or an address."""
    return os.path.isdir(word) or has_magic(word) or "://" in word


def _from_pil(image: Image.Image, bit_depth: int | None) -> np.ndarray:
    """[H, W, 3] RGB, upright; decodes the picture where that has not been done."""
    name = str(getattr(image, "filename", "")) or "the given PIL image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of malformed EXIF, which is harmless
            return from_pil(image, name, bit_depth)
    except ImageError:
        raise
    except Exception as error:  # an image is decoded when it is first used, and raises whatever a broken file provokes
        raise ImageError(f"{name}: cannot be decoded ({error}). Replace or remove the picture.") from error


def _from_tensor(tensor: Tensor) -> np.ndarray:
    """[H, W, 1 to 4] on the CPU, from [H, W] or [1 to 4, H, W] on any device."""
    _check_type(tensor.dtype == torch.uint8, tensor.dtype, "tensor")
    if tensor.dim() == 2:
        tensor = tensor[None]
    if tensor.dim() != 3 or tensor.shape[0] not in (1, 2, 3, 4) or 0 in tensor.shape:
        raise UserError(f"a picture given as tensor must have the shape [3, H, W], not {list(tensor.shape)}.")
    return tensor.detach().permute(1, 2, 0).cpu().numpy()


def _from_array(array: np.ndarray) -> np.ndarray:
    """[H, W, 1 to 4], from that or [H, W]."""
    _check_type(array.dtype == np.uint8, array.dtype, "array")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise UserError(f"a picture given as array must have the shape [H, W, 3], not {list(array.shape)}.")
    return array


def _check_type(is_uint8: bool, dtype: object, kind: str) -> None:
    if not is_uint8:
        raise UserError(
            f"a picture given as {kind} must hold uint8 values 0 to 255, not {dtype}; convert it first, for values in "
            "[0, 1] by (255 * x).round() and a cast."
        )


def _three_channels(array: np.ndarray, channels: Channels) -> np.ndarray:
    """[H, W, 3] RGB, contiguous, from [H, W, 1 to 4]: gray or colour, each with alpha or without."""
    color = array[..., :3] if array.shape[2] >= 3 else np.repeat(array[..., :1], 3, axis=2)
    return np.ascontiguousarray(color if channels == "rgb" else color[..., ::-1])
