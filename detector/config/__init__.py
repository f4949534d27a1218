"""Settings as typed dataclasses (`settings`), read from YAML and the command line (`loading`)."""

from detector.config.limits import ConfigError
from detector.config.loading import (
    CONFIG_FILE,
    config_from_dict,
    config_to_dict,
    differences,
    flatten,
    load_config,
    override_config,
    project_root,
    read_words,
    save_config,
)
from detector.config.settings import (
    AugmentConfig,
    BackboneConfig,
    Config,
    DataConfig,
    DetectionConfig,
    FPNConfig,
    InputConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
    TrainConfig,
)

__all__ = [
    "CONFIG_FILE",
    "AugmentConfig",
    "BackboneConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DetectionConfig",
    "FPNConfig",
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
    "read_words",
    "save_config",
]
