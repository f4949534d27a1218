"""Settings from nested plain containers (dicts, lists, numbers, texts), each checked by its name and type, and back."""

import copy
import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from detector.config.convert import brief, convert
from detector.config.limits import ConfigError
from detector.config.network import KIND_DEFAULTS
from detector.config.settings import Config
from detector.config.short_words import SHORT_WORDS


def config_from_dict(values: Mapping[str, Any], source: str = "config") -> Config:
    """Build a `Config` from nested plain containers, as stored in weights files, converting each value by its type.

    Args:
        source: where the values are from, for messages: a file, or the command line.

    Raises:
        ConfigError: one sentence naming source, key, and remedy.
    """
    config: Config = _construct(Config, _with_defaults_of_kind(checked_values(values, source)), source)
    return config


def config_to_dict(config: Config) -> dict[str, Any]:
    """Every setting as nested plain containers; `config_from_dict` reads it back unchanged."""
    return _plain(dataclasses.asdict(config))


def differences(first: Config, second: Config) -> list[str]:
    """One line for every setting that differs: `key: first value → second value`."""
    a, b = flatten(config_to_dict(first)), flatten(config_to_dict(second))
    return [f"{key}: {a.get(key)} → {b.get(key)}" for key in a | b if a.get(key) != b.get(key)]  # weights of classes


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merge(into: dict[str, Any], values: Mapping[Any, Any]) -> None:
    """Put settings over others, section by section, into the first."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def _with_defaults_of_kind(checked: Mapping[str, Any]) -> dict[str, Any]:
    """The given values over those that their `model.kind` has in place of the classes' defaults."""
    values: dict[str, Any] = {}
    for settings in (KIND_DEFAULTS.get(checked.get("model", {}).get("kind"), {}), checked):
        merge(values, copy.deepcopy(settings))
    return values


def checked_values(values: Any, source: str, cls: type[Any] = Config, prefix: str = "") -> dict[str, Any]:
    """The values by field, each known and of its field's type; settings within settings stay a mapping.

    Args:
        values: of a section, and of those within it.
        source: as for `config_from_dict`.
        cls: the section's class.
        prefix: what the section's settings begin with, for messages.

    Raises:
        ConfigError: a setting is unknown or of another type. Its limits are not checked here.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {prefix.rstrip('.') or 'the config'} must be a mapping of settings.")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            known = [*names, *SHORT_WORDS] if source == "command line" and not prefix else names
            near = _nearest(brief(key), prefix, known)
            hint = f" Did you mean {near}?" if near else f" There are: {', '.join(known)}."
            raise ConfigError(f"{source}: unknown setting {prefix}{brief(key)}.{hint}")
        if dataclasses.is_dataclass(hints[key]):
            checked[key] = checked_values(value, source, hints[key], f"{prefix}{key}.")
        else:
            checked[key] = convert(value, hints[key], f"{prefix}{key}", source)
    return checked


def _nearest(name: str, prefix: str, names: Sequence[str]) -> str | None:
    """The setting that was probably meant: of the same section, or of the same or nearly the same name elsewhere."""
    homes: dict[str, str] = {}
    for key in flatten(config_to_dict(Config())):
        homes.setdefault(key.rpartition(".")[2], key)
    if not prefix and (same := difflib.get_close_matches(name, homes, n=1, cutoff=0.9)):
        return homes[same[0]]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return prefix + near[0]
    elsewhere = difflib.get_close_matches(name, homes, n=1, cutoff=0.8)
    return homes[elsewhere[0]] if elsewhere else None


def _construct(cls: type[Any], checked: Mapping[str, Any], source: str) -> Any:
    """The dataclass of checked values, whose own limits are checked now."""
    hints = typing.get_type_hints(cls)
    nested = {k: _construct(hints[k], v, source) for k, v in checked.items() if dataclasses.is_dataclass(hints[k])}
    try:
        return cls(**{**checked, **nested})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _plain(value: Any) -> Any:
    """Tuples as lists, and keys as text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}  # class names that Python code wrote as numbers, say
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
