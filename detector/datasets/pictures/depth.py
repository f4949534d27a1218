"""How many bits the 16-bit pictures of a dataset use: one number for all of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from detector.config import Config
from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import ImageError, depth_in_use

# Pictures that are looked at, from the first to the last of the set.
_SAMPLE = 24


def with_bit_depth(config: Config, dataset: DetectionDataset, warn: Callable[[str], None]) -> Config:
    """The config with a depth for the dataset's pictures of more than 8 bits, where it states none and there are such.

    The depth is that of the sampled picture which uses most bits. It is part of the config that a weights file carries,
    so that the network is later shown pictures of the same brightness.

    Args:
        warn: says a warning when the depth is guessed.
    """
    if config.input.bit_depth is not None or len(dataset) == 0:
        return config
    step = max(1, len(dataset) // _SAMPLE)
    depths = []
    for index in range(0, len(dataset), step):
        try:
            depths.append(depth_in_use(Path(dataset.path(index)), config.input.max_pixels))
        except ImageError:  # which those say who read all pictures
            continue
    deepest = max((depth for depth in depths if depth is not None), default=None)
    if deepest is None:
        return config
    warn(
        f"{dataset.annotation_path}: its pictures have 16 bits a channel, of which {deepest} seem to be in use; set "
        f"input.bit_depth={deepest}, or what your camera uses, to be sure."
    )
    return replace(config, input=replace(config.input, bit_depth=deepest))
