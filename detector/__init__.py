"""Faster R-CNN with ResNet-C4, FPN or DC5.

    import detector

    model = detector.load("model_final.safetensors")  # or a published name such as "R101-C4-3x"
    detections = model.predict("photo.jpg", score_threshold=0.5)
    print(detections.names, detections.scores, detections.boxes)

The public names are imported when they are first used, so `import detector` itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from detector.version import __version__

if TYPE_CHECKING:
    from detector.config import Config as Config
    from detector.config import load_config as load_config
    from detector.errors import UserError as UserError
    from detector.inference.detections import Detections as Detections
    from detector.inference.load import load as load
    from detector.inference.predictor import Predictor as Predictor
    from detector.model.build import build_model as build_model
    from detector.python.call_check import DataCheck as DataCheck
    from detector.python.call_check import check_data as check_data
    from detector.python.call_evaluate import evaluate as evaluate
    from detector.python.call_train import TrainSteps as TrainSteps
    from detector.python.call_train import train as train
    from detector.python.call_train import train_steps as train_steps
    from detector.python.explanation import Explanation as Explanation
    from detector.python.training_run import Run as Run

_HOMES = {
    "Config": "detector.config",
    "DataCheck": "detector.python.call_check",
    "Detections": "detector.inference.detections",
    "Explanation": "detector.python.explanation",
    "Predictor": "detector.inference.predictor",
    "Run": "detector.python.training_run",
    "TrainSteps": "detector.python.call_train",
    "UserError": "detector.errors",
    "build_model": "detector.model.build",
    "check_data": "detector.python.call_check",
    "evaluate": "detector.python.call_evaluate",
    "load": "detector.inference.load",
    "load_config": "detector.config",
    "train": "detector.python.call_train",
    "train_steps": "detector.python.call_train",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
