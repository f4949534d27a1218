"""Batches on their way to the device, beside what it computes."""

from collections.abc import Iterable, Iterator

import torch

from detector.structures import ImageBatch


def uploaded(batches: Iterable[ImageBatch], device: torch.device) -> Iterator[tuple[ImageBatch, ImageBatch]]:
    """Each batch, and its copy on the device; a GPU fetches one while it still computes the one before.

    The one who takes them must not wait for the GPU in between, or nothing is left to fetch beside.
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
    """A stream for copies alone; None where the device has none."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    except RuntimeError:  # a device that tests only pretend
        return None
