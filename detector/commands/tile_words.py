"""The words of `predict` and `evaluate` about tiles."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from detector.command import fraction, positive
from detector.errors import UserError

if TYPE_CHECKING:
    from detector.inference.tiles import Tiling


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """How large pictures are looked at piece by piece."""
    parser.add_argument(
        "--tile",
        type=positive,
        metavar="PIXELS",
        help="look at larger pictures tile by tile as well as whole; PIXELS, of the original, is a tile's edge, best "
        "as large as the pictures of the training, since a tile gives no more proposals than a picture",
    )
    parser.add_argument(
        "--tile-overlap",
        type=fraction,
        help="of neighbouring tiles, a share of the edge (default: 0.2); smaller objects are whole in some tile",
    )


def tiling_of(args: argparse.Namespace) -> Tiling | None:
    """What `add_tile_arguments` asks for. Raises UserError for tiles that cannot be."""
    if args.tile is None:
        if args.tile_overlap is not None:
            raise UserError("--tile-overlap is of tiles; give --tile too, or leave it out.")
        return None
    from detector.inference.tiles import Tiling

    return Tiling(args.tile) if args.tile_overlap is None else Tiling(args.tile, args.tile_overlap)
