"""The network as one traced program, from which every format is made."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.export import Dim, ExportedProgram

from detector.export.export_network import ExportNetwork


def trace(network: ExportNetwork, smallest_side: int) -> ExportedProgram:
    """Trace the network for pictures of any height and width from `smallest_side` on.

    Its inputs are called image and score_threshold; see `ExportNetwork.forward`.
    """
    side = 4 * smallest_side
    example = (torch.zeros(1, 3, side, side + smallest_side), torch.tensor(0.5))
    height, width = Dim("height", min=smallest_side), Dim("width", min=smallest_side)
    with quietly(), torch.no_grad():
        return torch.export.export(network, example, dynamic_shapes=({2: height, 3: width}, None), strict=False)


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, libraries neither warn of each other nor log what they simplify: a user can do nothing about it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
