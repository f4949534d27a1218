"""The weights files that a run leaves: the best model and the last."""

from pathlib import Path
from typing import Any

import torch

from detector.training.run.parts import Run
from detector.training.run.validation import Evaluation
from detector.version import __version__
from detector.weights.files import save_weights


def save_model(path: Path, run: Run, evaluation: Evaluation | None) -> None:
    """Write the run's result as a weights file.

    Args:
        path: of the file.
        run: where it stands now.
        evaluation: of this model; None where it was not scored.

    Raises:
        UserError: the file cannot be written; an earlier one is intact.
    """
    save_weights(path, run.result.state_dict(), run.config, run.categories, provenance(run, evaluation))


def provenance(run: Run, evaluation: Evaluation | None) -> dict[str, Any]:
    """The provenance in a model's weights file: what trained it, on which data, for how long, and how good it was.

    Files are named without their folders, which are nobody else's business.
    """
    progress = run.progress
    return {
        "trained_by": f"detector {__version__}, torch {torch.__version__}, {run.device.type}, {run.precision}",
        "data": _file_name(run.train_data.annotation_path),
        "started_from": _file_name(run.config.model.weights or run.config.model.backbone.weights),
        "iterations": progress.iteration,
        "images": progress.images,
        "seconds": progress.seconds,
        "averaged": run.averaged is not None,
        "evaluated_on": _file_name(run.val_data.annotation_path) if run.val_data else None,
        "metrics": None if evaluation is None else _numbers(evaluation.metrics.to_dict()),
    }


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Of COCO's metrics those of all classes, and how many pictures could not be read, without their names."""
    return {
        key: len(value) if isinstance(value, list) else value for key, value in metrics.items() if key != "per_class"
    }


def _file_name(path: str | None) -> str | None:
    return None if path is None else Path(path).name
