"""The same weights in a network of other settings, to see that a comparison notices."""

from dataclasses import replace
from typing import Any

from detector.config import Config
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN


def changed(config: Config, section: str, **changes: Any) -> Config:
    """The config with other settings in `input`, or in a section of `model`."""
    if section == "input":
        return replace(config, input=replace(config.input, **changes))
    part = replace(getattr(config.model, section), **changes)
    return replace(config, model=replace(config.model, **{section: part}))


def rebuilt(model: FasterRCNN, config: Config) -> FasterRCNN:
    """A network of this config with the model's weights, in evaluation mode."""
    other = build_model(config)
    other.load_state_dict(model.state_dict())
    return other.eval()
