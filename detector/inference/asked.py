"""What is wrong with a request to load a detector whatever its weights hold: found before these are fetched or read."""

from collections.abc import Sequence
from pathlib import Path

from detector.config import check_overrides
from detector.config.recipes import recipe_names
from detector.errors import UserError
from detector.weights.published.catalogue import PUBLISHED, find_weights


def check_asked(
    weights: Sequence[str | Path],
    config: str | Path | None = None,
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
    if not fast and (precision == "bfloat16" or compiled):
        raise UserError("bfloat16 and compiling belong to the fast execution; leave out --plain (fast=False).")


def _check_config(config: Path, weights: Sequence[str | Path]) -> None:
    if len(weights) > 1:
        raise UserError(
            f"{config}: a config belongs to one file of weights, and there are {len(weights)}; convert those of other "
            "frameworks first (faster-rcnn convert-weights)."
        )
    if weights and str(weights[0]) in PUBLISHED:
        raise UserError(f"{weights[0]}: published weights bring their own config; leave {config} out.")
    if not config.expanduser().exists() and config.stem not in recipe_names():
        raise UserError(f"{config}: there is no such config; check its path.")
