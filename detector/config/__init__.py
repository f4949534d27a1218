"""Settings as typed dataclasses (`settings`), read from YAML and the command line (`loading`, `plain_data`)."""

from detector.config.detection import AugmentForm, DetectionConfig, ViewsConfig
from detector.config.limits import ConfigError
from detector.config.loading import (
    CONFIG_FILE,
    check_overrides,
    config_text,
    load_config,
    override_config,
    project_root,
    read_words,
    save_config,
)
from detector.config.network import BackboneConfig, FPNConfig, ModelConfig, RoIConfig, RPNConfig
from detector.config.plain_data import config_from_dict, config_to_dict, differences, flatten
from detector.config.settings import AugmentConfig, Config, DataConfig, InputConfig, TrainConfig

__all__ = [
    "CONFIG_FILE",
    "AugmentConfig",
    "AugmentForm",
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
    "ViewsConfig",
    "check_overrides",
    "config_from_dict",
    "config_text",
    "config_to_dict",
    "differences",
    "flatten",
    "load_config",
    "override_config",
    "project_root",
    "read_words",
    "save_config",
]
