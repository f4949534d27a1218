"""Our weights file: safetensors that carry the config, the categories and the provenance, so one file suffices."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import Config, config_from_dict, config_to_dict
from detector.disk import write_atomically
from detector.errors import UserError, one_line, shown

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
METADATA_KEY = "detector"  # one entry holds all: safetensors writes several in random order, and files would differ
CLASS_SCORES = "roi_head.cls_score.weight"

StoredType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    state_dict: name → tensor, as the model has them; floating-point tensors are float32. config: every setting of the
    run that made them. categories: what labels 1..K mean; empty for the weights of a backbone alone. provenance: plain
    containers saying what trained the weights, on what, for how long, and how good they were.
    """

    state_dict: dict[str, Tensor]
    config: Config
    categories: CategoryMap
    provenance: dict[str, Any]


def save_weights(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    config: Config,
    categories: CategoryMap,
    provenance: Mapping[str, Any],
    dtype: StoredType = "float32",
) -> None:
    """Write a weights file; under its final name it is complete, or it is not there.

    Args:
        path: ends with `.safetensors`; its folder is made where it is missing.
        state_dict: the model's state dict, on any device and in any memory format.
        config: stored whole.
        categories: as many as the state dict has classes; empty where it has no class scores.
        provenance: plain containers that JSON can hold.
        dtype: bfloat16 halves the file. It is for matrices and convolutions only: norms and biases stay float32, which
            costs nothing and keeps their statistics.

    Raises:
        UserError: the file cannot be written (no room, no permission).
    """
    path = Path(path)
    assert path.suffix == SUFFIX, path
    assert _num_classes(state_dict) in (None, len(categories)), "categories do not fit the class scores"
    tensors = {name: _stored(tensor, dtype) for name, tensor in state_dict.items()}
    metadata = {
        "format": FORMAT_VERSION,
        "config": config_to_dict(config),
        "categories": categories.to_coco(),
        "provenance": dict(provenance),
        "sha256": _digest(tensors),
    }
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    write_atomically(path, to_safetensors(tensors, {METADATA_KEY: text}))


def read_weights(path: str | Path) -> WeightsFile:
    """Read a weights file onto the CPU and verify its checksum.

    Raises:
        UserError: missing, torn, damaged, written by another program, or by a newer version of this one.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such weights file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {} if text is None else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(
            f"{path}: not a complete safetensors file ({one_line(error)}); copy or download it again, or use another "
            "checkpoint."
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the weights ({error.strerror or error}).") from None
    if text is None:
        raise UserError(
            f"{path}: these safetensors were written by another program, without config and categories; give a file "
            "that this project wrote, or another framework's .pth or .pkl."
        )
    metadata = _parse(text, path)
    if metadata.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format {shown(metadata.get('format'))} of our weights files is unknown here (this version reads "
            f"{FORMAT_VERSION}); upgrade this project."
        )
    if metadata.get("sha256") != _digest(tensors):
        raise UserError(f"{path}: the tensors do not match their checksum, the file is damaged; copy it again.")
    config, categories, provenance = _read_metadata(metadata, path)
    classes = _num_classes(tensors)
    if classes not in (None, len(categories)):
        raise UserError(f"{path}: {CLASS_SCORES} has {classes} classes, but {len(categories)} categories are named.")
    return WeightsFile({name: as_float32(t) for name, t in tensors.items()}, config, categories, provenance)


def as_float32(tensor: Tensor) -> Tensor:
    """The tensor as the model keeps it: floating point in float32, counters as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _num_classes(state_dict: Mapping[str, Tensor]) -> int | None:
    return state_dict[CLASS_SCORES].shape[0] - 1 if CLASS_SCORES in state_dict else None


def _stored(tensor: Tensor, dtype: StoredType) -> Tensor:
    tensor = tensor.detach()
    wanted = tensor.dtype
    if tensor.is_floating_point():
        wanted = torch.bfloat16 if dtype == "bfloat16" and tensor.dim() >= 2 else torch.float32
    # A copy: safetensors refuses tensors that share memory or are not contiguous (channels-last).
    return torch.empty(tensor.shape, dtype=wanted).copy_(tensor)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and contents; safetensors itself does not notice a flipped bit."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata cannot be read ({error}).") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: its metadata are not a mapping.")
    return metadata


def _read_metadata(metadata: Mapping[str, Any], path: Path) -> tuple[Config, CategoryMap, dict[str, Any]]:
    try:
        config, provenance = metadata["config"], metadata["provenance"]
        categories = CategoryMap.from_coco(metadata["categories"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: its config, categories or provenance cannot be read ({one_line(repr(error))})."
        ) from None
    if not isinstance(provenance, dict):
        raise UserError(f"{path}: its provenance is not a mapping.")
    return config_from_dict(config, str(path)), categories, provenance
