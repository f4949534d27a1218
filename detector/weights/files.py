"""Our weights file: safetensors that carry the model's settings, categories and provenance, so one file suffices.

Its settings are those of the model and of its input. They are bounded, and compared with the tensors before anything is
read into memory; paths and settings that make a program do something are neither written nor read, since a file may
come from anybody.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import Config, config_from_dict, config_to_dict
from detector.disk import write_atomically
from detector.errors import UserError, one_line, shown
from detector.weights.compare import as_float32, compare_state, shapes_of
from detector.weights.state_layout import backbone_shapes, has_last_stage, is_of_last_stage, model_shapes
from detector.weights.untrusted.file_kind import is_safetensors, read_head, refuse_other
from detector.weights.untrusted.safetensors_file import open_safetensors, read_metadata
from detector.weights.untrusted.torch_file import is_torch_file

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
METADATA_KEY = "detector"  # one entry holds all: safetensors writes several in random order, and files would differ
CARRIED = ("model", "input")  # sections of the config
CLASS_SCORES = "roi_head.cls_score.weight"

StoredType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    state_dict: name → tensor, as the model has them; floating-point tensors are float32. config: the settings of the
    model and its input; those of data and training are the defaults, except where another framework's config said them.
    categories: what labels 1..K mean; empty for the weights of a backbone alone. provenance: plain containers saying
    what trained the weights, on what, for how long, and how good they were; for people, nothing acts on it.
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
        config: its model and input settings are stored, without the weights that the run started from.
        categories: as many as the state dict has classes; empty where it has no class scores.
        provenance: plain containers that JSON can hold.
        dtype: bfloat16 halves the file. It is for matrices and convolutions only: norms and biases stay float32, which
            costs nothing and keeps their statistics.

    Raises:
        UserError: the file cannot be written (no room, no permission).
    """
    path = Path(path)
    assert path.suffix == SUFFIX, path
    assert _num_classes(shapes_of(state_dict)) in (None, len(categories)), "categories do not fit the class scores"
    tensors = {name: _stored(tensor, dtype) for name, tensor in state_dict.items()}
    metadata = {
        "format": FORMAT_VERSION,
        "config": carried_settings(config_to_dict(config)),
        "categories": categories.to_coco(),
        "provenance": dict(provenance),
        "sha256": _digest(tensors),
    }
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    write_atomically(path, to_safetensors(tensors, {METADATA_KEY: text}))


def is_weights_file(path: Path) -> bool:
    """Whether a file is one of ours, by its content; or is so by its name, and torn, which reading it will tell.

    Raises:
        UserError: it cannot be read, or is plainly something else than weights.
    """
    head = read_head(path)
    if is_safetensors(head):
        return METADATA_KEY in read_metadata(path)
    refuse_other(head, str(path))
    return path.suffix == SUFFIX and not is_torch_file(head)


def read_weights(path: str | Path, compare: bool = True) -> WeightsFile:
    """Read a weights file onto the CPU and verify its checksum.

    Args:
        compare: hold the tensors to the model that the settings describe, from the file's header, before they are read.
            A checkpoint is read without: its run compares it with the model that it has built.

    Raises:
        UserError: missing, torn, damaged, written by another program, by a newer version of this one, or changed.
    """
    path = Path(path)
    with open_safetensors(path) as file:
        metadata = _parse(file.metadata, path)
        config, categories, provenance = _read_metadata(metadata, path)
        classes = _num_classes(file.shapes)
        if classes not in (None, len(categories)):
            raise UserError(
                f"{path}: {CLASS_SCORES} has {classes} classes, but {len(categories)} categories are named."
            )
        if compare:
            _check_fit(file.shapes, config, categories, path)
        tensors = file.tensors()
    if metadata.get("sha256") != _digest(tensors):
        raise UserError(
            f"{path}: the tensors do not match their checksum: the file is damaged, or another program has "
            "changed it; copy it again."
        )
    return WeightsFile({name: as_float32(t) for name, t in tensors.items()}, config, categories, provenance)


def read_whole_config(path: Path) -> Config:
    """Every setting that an earlier version stored in a weights file, for comparing a checkpoint with its run.

    Raises:
        UserError: as `read_weights`.
    """
    with open_safetensors(path) as file:
        return config_from_dict(_parse(file.metadata, path).get("config", {}), str(path))


def carried_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings, as nested plain containers, that a weights file carries.

    They are those of the model and its input. What the run started from (`model.weights`, `model.backbone.weights`) is
    a path on somebody's machine, and is left out; the provenance names it for people.
    """
    carried = {section: settings[section] for section in CARRIED if section in settings}
    model = carried.get("model")
    if isinstance(model, Mapping):
        backbone = model.get("backbone")
        model = {key: value for key, value in model.items() if key != "weights"}
        if isinstance(backbone, Mapping):
            model["backbone"] = {key: value for key, value in backbone.items() if key != "weights"}
        carried["model"] = model
    return carried


def _num_classes(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    shape = shapes.get(CLASS_SCORES)
    return shape[0] - 1 if shape else None


def _check_fit(shapes: Mapping[str, tuple[int, ...]], config: Config, categories: CategoryMap, path: Path) -> None:
    """Raise UserError unless the tensors are those of the model that the settings describe, or its backbone's alone."""
    if len(categories):
        model = replace(config.model, num_classes=len(categories))
        expected = model_shapes(replace(config, model=model))
    else:
        whole = has_last_stage(shapes)
        expected = {n: s for n, s in backbone_shapes(config).items() if whole or not is_of_last_stage(n)}
    differences = compare_state(expected, shapes)
    if differences:
        raise UserError(
            f"{path}: its tensors are not those of the model that its settings describe ({differences.describe()}); "
            "the file was changed, get it again."
        )


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


def _parse(texts: Mapping[str, str], path: Path) -> dict[str, Any]:
    if METADATA_KEY not in texts:
        raise UserError(
            f"{path}: these safetensors were written by another program, without settings and categories; give a file "
            "that this project wrote, or another framework's .pth or .pkl."
        )
    try:
        metadata = json.loads(texts[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata cannot be read ({one_line(error)}).") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: its metadata are not a mapping.")
    if metadata.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format {shown(metadata.get('format'))} of our weights files is unknown here (this version reads "
            f"{FORMAT_VERSION}); upgrade this project."
        )
    return metadata


def _read_metadata(metadata: Mapping[str, Any], path: Path) -> tuple[Config, CategoryMap, dict[str, Any]]:
    try:
        config, provenance = metadata["config"], metadata["provenance"]
        categories = CategoryMap.from_coco(metadata["categories"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = one_line(str(error) if isinstance(error, UserError) else repr(error)).rstrip(".")
        raise UserError(f"{path}: its config, categories or provenance cannot be read ({reason}).") from None
    if not isinstance(provenance, dict):
        raise UserError(f"{path}: its provenance is not a mapping.")
    if not isinstance(config, dict):
        raise UserError(f"{path}: its config is not a mapping.")
    return config_from_dict(carried_settings(config), str(path)), categories, provenance
