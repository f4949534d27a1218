"""The limits of settings, written beside their defaults, and the one check that holds every setting to them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.errors import UserError, shown

_KEY = "limits"  # of a dataclass field's metadata


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, or out of range. The message is one sentence for the user."""


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest value, both allowed; of a list, for each of its values.

    most: how many values a list may have; it has at least `fewest`.
    """

    smallest: float
    largest: float
    fewest: int = 1
    most: int = 1


def limited(default: Any, smallest: float, largest: float, fewest: int = 1, most: int = 1) -> Any:
    """A dataclass field with this default, whose values `check_limits` holds to the limits (`Limits`)."""
    return dataclasses.field(default=default, metadata={_KEY: Limits(smallest, largest, fewest, most)})


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with this message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def check_limits(settings: Any, prefix: str) -> None:
    """Hold every `limited` setting of a dataclass to its limits; None, where a setting may be null, passes.

    Args:
        settings: a dataclass instance.
        prefix: of its keys in messages, such as `model.rpn.`.

    Raises:
        ConfigError: one sentence with key, value and limits. NaN is outside of all limits.
    """
    for field in dataclasses.fields(settings):
        _check_field(field, getattr(settings, field.name), prefix)


def check_given_limits(settings: type[Any], values: Mapping[str, Any], prefix: str = "") -> None:
    """`check_limits` for some settings alone, of their types, before there is a whole of which they are part.

    Args:
        settings: the dataclass.
        values: by the names of its fields; those of a dataclass within it as a mapping.
    """
    for field in dataclasses.fields(settings):
        value = values.get(field.name)
        part: Any = field.default_factory
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            check_given_limits(part, value or {}, f"{prefix}{field.name}.")
        else:
            _check_field(field, value, prefix)


def _check_field(field: "dataclasses.Field[Any]", value: Any, prefix: str) -> None:
    limits: Limits | None = field.metadata.get(_KEY)
    if limits is None or value is None:
        return
    key = prefix + field.name
    if not isinstance(value, tuple):
        _check_value(value, key, limits)
        return
    require(
        limits.fewest <= len(value) <= limits.most,
        f"{key} has {len(value)} values: give {limits.fewest} to {limits.most}.",
    )
    for place, item in enumerate(value):
        _check_value(item, f"{key}[{place}]", limits)


def _check_value(value: Any, key: str, limits: Limits) -> None:
    require(
        limits.smallest <= value <= limits.largest,
        f"{key}={shown(value)}: choose {_number(limits.smallest)} to {_number(limits.largest)}.",
    )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.10g}"
