"""Any transform of albumentations by its name, boxes moved with the picture.

What a config lists is checked when a run starts: names, arguments, and by a trial on a small picture that the result is
still an 8-bit RGB picture with boxes.
"""

import difflib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.errors import UserError

KEY = "data.augment.transforms"
TRIAL_SIZE = (160, 192)  # (height, width)


class NamedTransforms:
    """Transforms of albumentations, one after the other, as a function of a picture, its boxes and a generator.

    Args:
        entries: each a name (`ToGray`) or a name with its arguments (`{GaussianBlur: {sigma_limit: [0.5, 2]}}`).

    Raises:
        UserError: a name or an argument that albumentations does not have, a value that it refuses, or a transform
            that needs more than a picture and boxes, or makes something else of them.
    """

    def __init__(self, entries: Sequence[str | Mapping[str, Any]]) -> None:
        # Unless told not to, albumentations asks a package index for newer versions whenever it is imported.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations  # here, because it takes a second and the default recipes do without it

        named = [_name_and_arguments(entry) for entry in entries]
        transforms = [_build(albumentations, name, arguments) for name, arguments in named]
        # What moves no box does not get to see them: albumentations rounds boxes to float32.
        self.moves_boxes = any(not isinstance(one, albumentations.ImageOnlyTransform) for one in transforms)
        boxes = None
        if self.moves_boxes:
            boxes = albumentations.BboxParams("pascal_voc", ["rows"], clip=True, filter_invalid_bboxes=True)
        # The trial runs every transform, the rare ones too.
        certain = [_build(albumentations, name, arguments | {"p": 1.0}) for name, arguments in named]
        self._pipeline = albumentations.Compose(certain, bbox_params=boxes)
        self._try([name for name, _ in named])
        self._pipeline = albumentations.Compose(transforms, bbox_params=boxes)

    def __call__(
        self, image: np.ndarray, boxes: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> tuple[np.ndarray, Tensor, Tensor]:
        """Transform one picture.

        Args:
            image: [H, W, 3] uint8 RGB; it is not changed.
            boxes: [G, 4] float64 xyxy, pixels of `image`.
            labels: [G] int64.
            rng: decides everything random.

        Returns:
            The picture, and the boxes that are left, clipped to it, with their labels. Boxes are exact where no
            transform moves boxes, else float32.
        """
        self._pipeline.set_random_seed(int(rng.integers(2**31)))
        image = np.ascontiguousarray(image)
        if not self.moves_boxes:
            return np.asarray(self._pipeline(image=image)["image"]), boxes, labels
        rows = np.arange(len(boxes))
        result = self._pipeline(image=image, bboxes=boxes.numpy(), rows=rows)
        kept = np.asarray(result["rows"], dtype=np.int64)  # they come back as floats
        moved = np.asarray(result["bboxes"], dtype=np.float64).reshape(-1, 4)
        return np.asarray(result["image"]), torch.from_numpy(moved), labels[torch.from_numpy(kept)]

    def _try(self, names: list[str]) -> None:
        """Raise UserError unless the transforms make of a picture a picture."""
        image = np.random.default_rng(0).integers(0, 255, (*TRIAL_SIZE, 3), np.uint8)
        boxes = torch.tensor([[20.0, 30.0, 90.0, 120.0]], dtype=torch.float64)
        try:
            image, _, _ = self(image, boxes, torch.tensor([1]), np.random.default_rng(0))
        except Exception as error:  # whatever a transform of somebody else's may raise
            raise UserError(
                f"{KEY}={names}: they fail on a picture with a box ({_first_line(error)}); leave out what "
                "needs more than these, such as masks or reference pictures."
            ) from None
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"{KEY}={names}: they make an array {list(image.shape)} of {image.dtype} of a picture; leave "
                "out what normalises or makes tensors, which is done later."
            )


def _name_and_arguments(entry: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, arguments),) = entry.items()
        if isinstance(name, str) and (arguments is None or isinstance(arguments, Mapping)):
            return name, dict(arguments or {})
    raise UserError(
        f"{KEY}: {entry!r} is not a name, nor a name with its arguments such as {{Blur: {{blur_limit: 3}}}}."
    )


def _build(albumentations: Any, name: str, arguments: dict[str, Any]) -> Any:
    """The transform `name` with its arguments."""
    known = {
        key: value
        for key, value in vars(albumentations).items()
        if inspect.isclass(value) and issubclass(value, albumentations.BasicTransform) and not inspect.isabstract(value)
    }
    if name not in known:
        raise UserError(f"{KEY}: albumentations has no transform {name!r}{_nearest(name, list(known))}.")
    accepted = [key for key in inspect.signature(known[name].__init__).parameters if key != "self"]
    for argument in arguments:
        if argument not in accepted:
            raise UserError(
                f"{KEY}: {name} has no argument {argument!r}{_nearest(argument, accepted)}; it takes "
                f"{', '.join(accepted)}."
            )
    try:
        return known[name](**arguments)
    except (TypeError, ValueError) as error:
        reason = "; ".join(
            line.strip() for line in str(error).splitlines() if line and "errors.pydantic.dev" not in line
        )
        raise UserError(f"{KEY}: {name} refuses {arguments}: {reason}") from None


def _nearest(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, 1)
    return f"; did you mean {near[0]}" if near else ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
