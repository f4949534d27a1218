"""Checks of a request that need not know what its weights hold, and so come before these are fetched or read."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from detector.command import PRECISIONS
from detector.config import check_overrides
from detector.config.recipes import recipe_names
from detector.errors import UserError, shown
from detector.weights.published.catalogue import PUBLISHED, find_weights


def paths_of(weights: object) -> list[str]:
    """Files or published names as texts: of one, or of several. Raises UserError for none, and for other things."""
    several = list(weights) if isinstance(weights, Sequence) and not isinstance(weights, str | bytes) else [weights]
    for one in several:
        if not isinstance(one, str | os.PathLike):
            raise UserError(f"weights cannot be a {type(one).__name__}; give a path or a published name, or a list.")
    if not several:
        raise UserError("no weights are given; name a file or a published model.")
    return [str(one) for one in several]


def check_asked(
    weights: Sequence[str],
    config: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    fast: bool = True,
    precision: str = "auto",
    compiled: bool = False,
) -> None:
    """Check the arguments of `detector.inference.load.load`, in a moment and without torch.

    Args:
        weights: none where they are still to be chosen.

    Raises:
        UserError: there are no such weights or no such config, settings are unknown or out of their limits, or words do
            not go together.
    """
    for one in weights:
        find_weights(one)
    if config is not None:
        _check_config(Path(config), weights)
    check_overrides(overrides)
    if precision not in PRECISIONS:
        raise UserError(f"precision={shown(precision)}: choose {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}.")
    check_plain(fast, precision, compiled)


def check_plain(fast: bool, precision: str, compiled: bool) -> None:
    """Raise UserError where the network as it is written (not `fast`) is asked for what it does not have."""
    if not fast and (precision == "bfloat16" or compiled):
        raise UserError("bfloat16 and compiling belong to the fast execution; leave out --plain (fast=False).")


def _check_config(config: Path, weights: Sequence[str]) -> None:
    if len(weights) > 1:
        raise UserError(
            f"{config}: a config belongs to one file of weights, and there are {len(weights)}; convert those of other "
            "frameworks first (faster-rcnn convert-weights)."
        )
    if weights and weights[0] in PUBLISHED:
        raise UserError(f"{weights[0]}: published weights bring their own config; leave {config} out.")
    if not config.expanduser().exists() and config.stem not in recipe_names():
        raise UserError(f"{config}: there is no such config; check its path.")


def as_fraction(value: Any, name: str) -> float:
    """What is given for an argument, of whatever type of number, as a number in [0, 1]. Raises UserError."""
    with suppress(TypeError, ValueError):
        number = float(value)
        if 0 <= number <= 1:
            return number
    raise UserError(f"{name}={shown(value)}: choose 0 to 1.")
