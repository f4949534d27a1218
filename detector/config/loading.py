"""Read, override and write configs: YAML with one level of `base:`, `key.path=value` words, unknown keys refused."""

import dataclasses
import datetime
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from detector.config.convert import brief
from detector.config.limits import ConfigError, check_given_limits
from detector.config.plain_data import checked_values, config_from_dict, config_to_dict, merge
from detector.config.recipes import find_config, is_installed_recipe
from detector.config.settings import Config
from detector.config.short_words import expand
from detector.config.yaml_file import parse_yaml, read_yaml
from detector.disk import write_atomically
from detector.errors import shown

PATH_KEYS = (
    "data.train_annotations",
    "data.train_images",
    "data.val_annotations",
    "data.val_images",
    "data.test_annotations",
    "data.test_images",
)
# Weights may be a published name instead of a path; only what looks like a path is resolved.
WEIGHT_KEYS = ("model.weights", "model.backbone.weights")
CONFIG_FILE = "config.yaml"  # the settings of a run, in its folder


def load_config(path: str | Path | None, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Config:
    """Read a YAML config, apply `key.path=value` overrides, and validate.

    Args:
        path: the YAML file, or the name of a recipe; None starts from the defaults.
        overrides: words such as `train.learning_rate=0.01`. Values are read as YAML and converted by the type of
            the field, so `1e-4` is a float and `no` stays a string where a string is wanted. Or values by the
            settings' dotted names.

    Returns:
        A frozen `Config`. Relative paths of the file are resolved against its project root (`project_root`), those
        of overrides against the current folder.

    Raises:
        ConfigError: one sentence naming file or command line, key, and remedy.
    """
    values: dict[str, Any] = {}
    if path is not None:
        path = find_config(path)
        values = _read_with_base(path)
        _resolve_paths(values, project_root(path), str(path))
    config = config_from_dict(values, str(path))
    return _override(config, values, overrides)


def override_config(config: Config, overrides: Sequence[str] | Mapping[str, Any]) -> Config:
    """Apply `key.path=value` words, as `load_config` does, to a config that is there already. Raises ConfigError.

    Args:
        overrides: words, or values by the settings' dotted names (or `read_words`'), as YAML would have them.
    """
    return _override(config, config_to_dict(config), overrides)


def read_words(overrides: Sequence[str]) -> dict[str, Any]:
    """Words such as `train.learning_rate=0.01` as values by dotted name, unchecked; short words become what they mean.

    Raises:
        ConfigError: a word has no equals sign, or is one of other frameworks.
    """
    values: dict[str, Any] = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not key:
            data = f" Pictures to train on are given as data={brief(word)}." if os.path.exists(word) else ""
            raise ConfigError(f"{shown(word)} (command line): overrides are written key.path=value.{data}")
        for name, value in expand(key, text).items():
            values.pop(name, None)  # the last one counts, also among settings within one another
            values[name] = tuple(_read_word(name, v) for v in value) if isinstance(value, tuple) else value
            if isinstance(value, str):
                values[name] = _read_word(name, value)
    return values


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError for words that are wrong whatever config they are for, which may take long to be read."""
    checked = checked_values(_nested(overrides), "command line")
    try:
        check_given_limits(Config, checked)
    except ConfigError as error:
        raise ConfigError(f"command line: {error}") from None


def _override(config: Config, values: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any]) -> Config:
    """`config`, which was built from `values`, with overrides."""
    given = _nested(overrides)
    if not given:
        return config
    # Keys and types first, on their own, so that the message blames the command line and not the file. Ranges can
    # only be judged together with the file's values.
    checked_values(given, "command line")
    merge(values, given)
    return config_from_dict(values, "command line")


def _nested(overrides: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as settings within settings, unchecked; relative paths start at the current folder."""
    nested_overrides: dict[str, Any] = {}
    given = overrides if isinstance(overrides, Mapping) else read_words(overrides)
    for key, value in given.items():
        nested: dict[str, Any] = {}
        _set(nested, key, value)
        _resolve_paths(nested, Path.cwd(), "command line")
        merge(nested_overrides, nested)
    return nested_overrides


def config_text(config: Config) -> str:
    """Every setting as YAML that `load_config` reads back unchanged."""
    text: str = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
    return text


def save_config(config: Config, path: str | Path) -> None:
    """Write every setting as YAML that `load_config` reads back unchanged.

    Raises:
        UserError: the file cannot be written; an earlier one is intact.
    """
    write_atomically(Path(path), config_text(config).encode())


def project_root(config_path: Path) -> Path:
    """The nearest folder above a config that holds pyproject.toml; else the config's own folder.

    The paths of a recipe inside the installed package start at the current folder.
    """
    if is_installed_recipe(config_path):
        return Path.cwd()
    folder = config_path.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").is_file():
            return candidate
    return folder


def _read_with_base(path: Path) -> dict[str, Any]:
    """The values of a file, over those of the file that its `base` names, if it names one."""
    values = read_yaml(path)
    base_name = values.pop("base", None)
    if base_name is None:
        return values
    if not isinstance(base_name, str):
        raise ConfigError(f"{path}: base must be a file name.")
    base_path = path.parent / base_name
    base = read_yaml(base_path)
    if "base" in base:
        raise ConfigError(f"{base_path} is the base of {path} and has a base itself; inheritance is one level deep.")
    merge(base, values)
    return base


def _resolve_paths(values: dict[str, Any], root: Path, source: str) -> None:
    """Make the relative paths among the values absolute, starting at `root`."""
    for key in (*PATH_KEYS, *WEIGHT_KEYS):
        holder: Any = values
        *parents, last = key.split(".")
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or not isinstance(holder.get(last), str):
            continue
        text = holder[last]
        if "://" in text:
            raise ConfigError(f"{key}={brief(text)} ({source}): is an address; fetch the file, and give its path.")
        if key in WEIGHT_KEYS and not _looks_like_path(text):
            continue
        if not _can_be_path(text):
            raise ConfigError(f"{key}={brief(text)} ({source}): holds a character that no path can have.")
        holder[last] = str((root / Path(text).expanduser()).resolve())


def _can_be_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half a character, which YAML can spell
        return False


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".pth", ".pkl", ".safetensors", ".pt"))


def _read_word(key: str, text: str) -> Any:
    """The value of an override: YAML, but a bare `no` or `2017` stays text where the setting wants text."""
    try:
        value = parse_yaml(text, "command line")
    except ConfigError:
        return text
    hint: Any = Config
    for part in key.split("."):
        hint = typing.get_type_hints(hint).get(part) if dataclasses.is_dataclass(hint) else None
    choices = typing.get_args(hint) or (hint,)
    wants_text = any(c is str or isinstance(c, str) or typing.get_origin(c) is Literal for c in choices)
    return text if wants_text and isinstance(value, (bool, int, float, datetime.date)) else value


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under its dotted name, in sections within sections."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value
