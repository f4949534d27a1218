"""Values as YAML has them, converted by the types of their settings."""

import difflib
import re
import types
import typing
from typing import Any, Literal, Union

from detector.config.limits import ConfigError
from detector.errors import one_line, shown

LONGEST_LIST = 1000  # what a setting may be at most; many may be less (`limits`)
# Names that people give to choices.
_ALSO_CALLED = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32", "full": "float32"}
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?")


def convert(value: Any, hint: Any, key: str, source: str) -> Any:
    """A value of a YAML file, as the type of its setting wants it.

    Args:
        value: plain data: text, a number, a truth value, a list, a mapping or None.
        hint: the setting's type: bool, int, float, str, Any, a Literal, a tuple, or an optional one of these.
        key: the setting's dotted name, for messages.
        source: the file, or the command line.

    Raises:
        ConfigError: one sentence with key, value, source, and what is expected.
    """

    def refuse(expected: str) -> ConfigError:
        return ConfigError(
            f"{key}={brief(value)} ({source}): expected {expected}{'' if expected.endswith('?') else '.'}"
        )

    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        inner = [a for a in args if a is not type(None)]
        number = convert(value, float if float in inner else inner[0], key, source)
        return int(number) if set(inner) == {int, float} and number == int(number) else number
    if origin is Literal:
        # YAML reads bare `no` and `off` as False; no choice is spelled so, and the text is compared as written.
        if value in args:
            return value
        near = difflib.get_close_matches(_ALSO_CALLED.get(brief(value).lower(), brief(value)), args, n=1)
        raise refuse("one of " + ", ".join(args) + (f"; did you mean {near[0]}?" if near else ""))
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            is_item = isinstance(value, str | int | float) and "[" not in str(value)
            raise refuse(f"a list, such as [{brief(value)}]" if is_item else "a list")
        item = args[0]
        if len(value) > LONGEST_LIST:  # first of all: converting each takes its time
            raise ConfigError(f"{key} ({source}) has {len(value)} values: give at most {LONGEST_LIST}.")
        if Ellipsis not in args and len(value) != len(args):
            raise refuse(f"a list of {len(args)} values")
        return tuple(convert(v, item, f"{key}[{i}]", source) for i, v in enumerate(value))
    if hint is Any:  # what only another library can judge
        return value
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise refuse("true or false")
    if hint is int:
        refusal = refuse("a whole number")
        number = value if isinstance(value, int) else _to_float(value, refusal)  # through a float: 9e4 is whole too
        if isinstance(value, bool) or number != int(number) or abs(number) >= 2**63:
            raise refusal
        return int(number)
    if hint is float:
        return _to_float(value, refuse("a number"))
    if hint is str:
        if isinstance(value, str):
            return value
        raise refuse("text; put it in quotes")
    raise AssertionError(f"no conversion for {hint} of {key}")


def _to_float(value: Any, refusal: ConfigError) -> float:
    # YAML 1.1 reads 1e-4 (without a dot) as text. 010 is text too: it would be 8 to YAML, and 10 to most readers.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise refusal
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise refusal
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise refusal from None
    if number != number or number in (float("inf"), float("-inf")):
        raise refusal
    return number


def brief(value: Any) -> str:
    """A key or value in a message: text as it is, cut where it is long, everything else bounded."""
    return one_line(value, limit=80) if isinstance(value, str) else shown(value)
