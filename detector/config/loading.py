"""Read, override and write configs: YAML with one level of `base:`, `key.path=value` words, unknown keys refused."""

import copy
import dataclasses
import datetime
import difflib
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from detector.config.convert import brief, convert
from detector.config.limits import ConfigError, check_given_limits
from detector.config.network import KIND_DEFAULTS
from detector.config.recipes import find_config, is_installed_recipe
from detector.config.settings import Config
from detector.config.short_words import SHORT_WORDS, expand
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
    config = _build(Config, values, prefix="", source=str(path))
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
    checked = _checked(Config, _nested(overrides), prefix="", source="command line")
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
    _checked(Config, given, prefix="", source="command line")
    _merge(values, given)
    return _build(Config, values, prefix="", source="command line")


def _nested(overrides: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as settings within settings, unchecked; relative paths start at the current folder."""
    nested_overrides: dict[str, Any] = {}
    given = overrides if isinstance(overrides, Mapping) else read_words(overrides)
    for key, value in given.items():
        nested: dict[str, Any] = {}
        _set(nested, key, value)
        _resolve_paths(nested, Path.cwd(), "command line")
        _merge(nested_overrides, nested)
    return nested_overrides


def config_from_dict(values: Mapping[str, Any], source: str = "config") -> Config:
    """Build a `Config` from nested plain containers, as stored in weights files. Raises ConfigError."""
    return _build(Config, values, prefix="", source=source)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Every setting as nested plain containers; `config_from_dict` reads it back unchanged."""
    return _plain(dataclasses.asdict(config))


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


def _read_with_base(path: Path) -> dict[str, Any]:
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
    _merge(base, values)
    return base


def _resolve_paths(values: dict[str, Any], root: Path, source: str) -> None:
    for key in (*PATH_KEYS, *WEIGHT_KEYS):
        holder: Any = values
        *parents, last = key.split(".")
        for parent in parents:
            holder = holder.get(parent) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or not isinstance(holder.get(last), str):
            continue
        text = holder[last]
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
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


def _merge(into: dict[str, Any], values: Mapping[Any, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _build(cls: type[Any], values: Any, prefix: str, source: str) -> Any:
    """Construct dataclass `cls` from a mapping, converting each value by its field's type."""
    checked = _checked(cls, values, prefix, source)
    return _construct(cls, _with_defaults_of_kind(checked) if cls is Config else checked, source)


def _with_defaults_of_kind(checked: Mapping[str, Any]) -> dict[str, Any]:
    """The given values over those that their `model.kind` has in place of the classes' defaults."""
    values: dict[str, Any] = {}
    for settings in (KIND_DEFAULTS.get(checked.get("model", {}).get("kind"), {}), checked):
        _merge(values, copy.deepcopy(settings))
    return values


def _checked(cls: type[Any], values: Any, prefix: str, source: str) -> dict[str, Any]:
    """The values by field, each known and of its field's type; settings within settings stay a mapping."""
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
            checked[key] = _checked(hints[key], value, f"{prefix}{key}.", source)
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
    hints = typing.get_type_hints(cls)
    nested = {k: _construct(hints[k], v, source) for k, v in checked.items() if dataclasses.is_dataclass(hints[k])}
    try:
        return cls(**{**checked, **nested})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}  # class names that Python code wrote as numbers, say
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
