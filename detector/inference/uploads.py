"""Batches copied to the device while it computes."""

from collections.abc import Iterable, Iterator

import torch

from detector.structures import ImageBatch


def uploaded(batches: Iterable[ImageBatch], device: torch.device) -> Iterator[tuple[ImageBatch, ImageBatch]]:
    """Each batch, and its copy on the device; a GPU copies a batch while it still computes the one before.

    The caller must not wait for the GPU before it takes the next batch: the copy would then run beside nothing.
    """
    stream = copy_stream(device)
    for batch in batches:
        if stream is None:
            yield batch, batch.to(device, non_blocking=True)
            continue
        with torch.cuda.stream(stream):
            moved = batch.to(device, non_blocking=True)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(stream)
        moved.pixels.record_stream(computing)  # its memory is not given away before that stream is done with it
        yield batch, moved


def copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A CUDA stream for copies alone; None on devices without streams."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    except RuntimeError:  # in tests, where the GPU is only simulated
        return None
