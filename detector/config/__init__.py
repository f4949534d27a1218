"""Settings as typed dataclasses (`settings`), read from YAML and the command line (`loading`)."""

from detector.config.loading import (
    config_from_dict,
    config_to_dict,
    differences,
    flatten,
    load_config,
    override_config,
    project_root,
    save_config,
)
from detector.config.settings import (
    AugmentConfig,
    BackboneConfig,
    Config,
    ConfigError,
    DataConfig,
    DetectionConfig,
    InputConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "BackboneConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DetectionConfig",
    "InputConfig",
    "ModelConfig",
    "RPNConfig",
    "RoIConfig",
    "TrainConfig",
    "config_from_dict",
    "config_to_dict",
    "differences",
    "flatten",
    "load_config",
    "override_config",
    "project_root",
    "save_config",
]
