"""What detections were made with, which tells a later command whether it may continue an earlier prediction."""

from collections.abc import Sequence
from typing import Any

from detector.arithmetic import Precision
from detector.config import Config, config_text
from detector.disk import file_digest
from detector.errors import UserError
from detector.inference.tiles import Tiling
from detector.weights.published.catalogue import find_weights


def made_with(
    weights: Sequence[str],
    config: Config,
    changes: Sequence[str],
    score_threshold: float,
    precision: Precision,
    augment: bool,
    tiling: Tiling | None,
) -> dict[str, Any]:
    """Everything that detections depend on; only their last bits depend on the device and the batch too.

    Args:
        weights: files, which are told by their content, and published names.
        config: of the first of them, changed.
        changes: `key.path=value` words, which change the others of an ensemble too.
        score_threshold, precision, augment, tiling: as `Predictor.predict` takes them.

    Returns:
        Plain containers, by the words that a message uses.

    Raises:
        UserError: a file of weights cannot be read.
    """
    return {
        "weights": [_identity(one) for one in weights],
        "settings": [config_text(config), sorted(changes) if len(weights) > 1 else []],
        "score threshold": score_threshold,
        "precision": precision,
        "augment": augment,
        "tile": None if tiling is None else tiling.size,
        "tile overlap": None if tiling is None else tiling.overlap,
    }


def _identity(weights: str) -> str:
    path = find_weights(weights)
    if path is None:
        return weights
    try:
        return file_digest(path)
    except OSError as error:
        raise UserError(f"{weights}: cannot be read ({error.strerror}); check the file.") from None
