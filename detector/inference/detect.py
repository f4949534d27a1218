"""Run a model over a dataset, and gather the detections of several processes."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from detector import process_group
from detector.arithmetic import Precision, float32_products
from detector.categories import UNUSED, CategoryMap
from detector.datasets.loading.left_out import LeftOut
from detector.inference.detections import Detections
from detector.inference.uploads import uploaded
from detector.structures import ImageBatch, Selection


def detect_dataset(
    model: nn.Module,
    loader: Iterable[ImageBatch],
    device: torch.device,
    categories: CategoryMap,
    progress: bool = True,
    precision: Precision = "float32",
) -> list[dict[str, Any]]:
    """Detect in every picture of a loader.

    Args:
        model: takes an `ImageBatch`, returns a `Selection` for each image, in the frame of the input image. It runs in
            evaluation mode, and every module of it is left in the mode it was in.
        loader: batches of images with their dataset ids. An image whose id has come before is left out: samplers repeat
            images so that all processes have equally many.
        device: the one that the model is on.
        categories: of the model, which turn its labels into category ids. Detections of a label that stands for nothing
            (`categories.UNUSED`) are left out: no dataset knows its category.
        progress: show a bar with rate and remaining time.
        precision: how a GPU multiplies the model's float32 tensors; bfloat16 must be the model's own.

    Returns:
        COCO results, [x, y, width, height] in pixels of the original images, descending by score within an image.
    """
    results: list[dict[str, Any]] = []
    done: set[int] = set()
    unused = {category.id for category in categories.categories if category.name.startswith(UNUSED)}
    with evaluation_mode(model):
        total = len(loader) if isinstance(loader, Sized) else None
        bar = tqdm(loader, desc="detecting", unit="batch", total=total, disable=not progress)
        for batch, selections in _one_behind(model, bar, device, precision):
            images = zip(batch.image_ids, selections, batch.sizes, batch.original_sizes, strict=True)
            for image_id, selection, size, original_size in images:
                if image_id not in done:
                    done.add(image_id)
                    detections = Detections.of_selection(selection, size, original_size, categories).to_coco(image_id)
                    results += [result for result in detections if result["category_id"] not in unused]
    return results


def _one_behind(
    model: nn.Module, batches: Iterable[ImageBatch], device: torch.device, precision: Precision
) -> Iterator[tuple[ImageBatch, Sequence[Selection]]]:
    """Each batch with its selections, one batch late: the GPU then has the next one to compute while these are read."""
    before: tuple[ImageBatch, Sequence[Selection]] | None = None
    for batch, moved in uploaded(batches, device):
        with torch.inference_mode(), float32_products(precision):
            selections: Sequence[Selection] = model(moved)
        if before is not None:
            yield before
        before = batch, selections
    if before is not None:
        yield before


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`model.eval()` within this context; afterwards every module is back in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def gather_results(local: list[dict[str, Any]], image_ids: Iterable[int]) -> list[dict[str, Any]]:
    """The results of all processes on rank 0, an empty list on the others; without a process group, those of `local`.

    Where several processes have detections of one image, those of the lowest rank count. Every process must call this.

    Args:
        local: COCO results of this process.
        image_ids: of the dataset. The results are put into this order, so they do not depend on the number of processes
            or the size of batches.
    """
    parts: list[Any] | None = [local]
    if dist.is_available() and dist.is_initialized():
        parts = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(local, parts)
    places = {int(image_id): place for place, image_id in enumerate(image_ids)}
    return sorted(_each_image_once(parts or []), key=lambda result: places[result["image_id"]])


def everywhere_left_out(left_out: LeftOut | None) -> tuple[str, ...]:
    """What was wrong with the pictures that any process left out, in every process. Every process must call this."""
    mine = () if left_out is None else left_out.said
    return tuple(sorted({problem for said in process_group.gather(mine) for problem in said}))


def _each_image_once(parts: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The results in `parts`, without those of an image that an earlier part has results of."""
    gathered: list[dict[str, Any]] = []
    done: set[int] = set()
    for part in parts:
        gathered += [result for result in part if result["image_id"] not in done]
        done |= {result["image_id"] for result in part}
    return gathered
