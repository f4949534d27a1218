"""Files of other frameworks: recognised by their contents, read without trusting them, as named float32 tensors."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from detector.categories import CategoryMap
from detector.errors import UserError, shown
from detector.printing import printable
from detector.regular_file import open_regular
from detector.weights.compare import as_float32
from detector.weights.untrusted.file_kind import is_safetensors, read_head, refuse_other
from detector.weights.untrusted.pickled_tensors import TENSOR_NAMES
from detector.weights.untrusted.runner_file import META, WEIGHTS, read_runner_file
from detector.weights.untrusted.safetensors_file import open_safetensors
from detector.weights.untrusted.torch_file import RefusedTorchFile, is_torch_file, read_torch_file
from detector.weights.untrusted.unpickle import read_pickle
from detector.weights.untrusted.within import find_entry, unwrapped

log = logging.getLogger(__name__)

# The largest C4 detector (ResNet-152, with optimizer state) is a tenth of this.
MAX_BYTES = 8 * 2**30
MAX_TENSORS = 20_000
CATEGORIES_KEY = "categories"  # as in a COCO file: [{"id": 1, "name": "person"}, …]


@dataclass(frozen=True)
class ForeignWeights:
    """Tensors under another framework's names.

    tensors: floating-point ones in float32, contiguous, on the CPU. categories: where the file was written by us in
    another framework's form (`detectron2_export`), which stores them beside the model; else None. meta: what a
    checkpoint of mmdetection says beside its weights; its values are not checked, and may be `Placeholder`s.
    """

    tensors: dict[str, Tensor]
    categories: CategoryMap | None
    meta: Mapping[Any, Any] = field(default_factory=dict)


def read_foreign(path: str | Path) -> ForeignWeights:
    """Read a `.pkl` of numpy arrays, a file of torch.save or safetensors, whatever its name ends with.

    Weights may be the whole file or an entry of it, and what wrappers have put before every name is removed (`within`).

    Raises:
        UserError: one sentence: missing, empty, a web page, a text, cut short, wants more than tensors, holds none, or
            several weights that differ.
    """
    path = Path(path)
    source = str(path)
    head = read_head(path)
    with open_regular(path, "weights") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise UserError(f"{path}: {size} bytes are too many for the weights of a detector.")
        if not head:
            raise UserError(f"{path}: the file is empty; copy or download it again.")
        refuse_other(head, source)
        if is_safetensors(head):
            with open_safetensors(path) as opened:
                _check_number(len(opened.shapes), source)
                return ForeignWeights(unwrapped(_tensors(opened.tensors(), size, source)), None)
        content = _read_torch_file(file, source) if is_torch_file(head) else read_pickle(file, source, TENSOR_NAMES)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__} and no named weights.")
    entry = find_entry(content, source)
    tensors = _tensors(entry.weights, size, source)
    meta = entry.beside.get(META) if WEIGHTS in entry.beside else None
    return ForeignWeights(
        unwrapped(tensors),
        _categories(entry.beside.get(CATEGORIES_KEY, content.get(CATEGORIES_KEY)), source),
        meta if isinstance(meta, Mapping) else {},
    )


def _read_torch_file(file: BinaryIO, source: str) -> Any:
    """Tensors and plain containers; of a training checkpoint with more than these its weights and notes alone."""
    try:
        return read_torch_file(file, source)
    except RefusedTorchFile:
        file.seek(0)
        runner = read_runner_file(file, source)
        if runner is None:
            raise
    left_out = f"{', '.join(runner.left_out[:8])}{' …' if len(runner.left_out) > 8 else ''}"
    log.info("%s: a training checkpoint; not read, and nothing of it run: %s", source, printable(left_out, 500))
    return {WEIGHTS: runner.state_dict, META: runner.meta}


def _categories(value: Any, source: str) -> CategoryMap | None:
    if value is None:
        return None
    try:
        return CategoryMap.from_coco(value)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        raise UserError(f"{source}: its {CATEGORIES_KEY} are not a list of ids and names.") from None


def _tensors(content: Mapping[Any, Any], size: int, source: str) -> dict[str, Tensor]:
    """Check that every value is a plain array of numbers, and that together they claim no more than the file holds."""
    _check_number(len(content), source)
    arrays: dict[str, Tensor] = {}
    claimed = 0
    for name, value in content.items():
        # Arrays from a pickle are read-only views of the file's bytes.
        tensor = torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(
                f"{source}: {shown(name)} holds a {type(value).__name__} where weights have arrays of numbers "
                "under names."
            )
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
            raise UserError(f"{source}: {printable(name, 80)} is not a plain tensor of real numbers.")
        claimed += tensor.numel() * tensor.element_size()
        if claimed > size:
            raise UserError(
                f"{source}: refused, its tensors up to {printable(name, 80)} claim more than the {size} bytes it has."
            )
        arrays[name] = tensor.detach()
    if not arrays:
        raise UserError(f"{source}: holds no weights.")
    return {name: as_float32(tensor).contiguous() for name, tensor in arrays.items()}


def _check_number(count: int, source: str) -> None:
    if count > MAX_TENSORS:
        raise UserError(f"{source}: {count} named values are too many for the weights of a detector.")
