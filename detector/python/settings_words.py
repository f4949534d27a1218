"""Settings that are given as Python's keywords, as the words of the command line."""

import argparse
import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from detector.errors import UserError, shown


def arguments_of(add_arguments: Callable[[argparse.ArgumentParser], None], **given: Any) -> argparse.Namespace:
    """What a command's words become: its defaults, and in their place what is given and is not None.

    Raises:
        UserError: a value is none that the command takes.
    """
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    values = {key: value for key, value in given.items() if value is not None}
    for key, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            _check(actions[key], key, one)
    return argparse.Namespace(**{key: parser.get_default(key) for key in actions} | values)


def _check(action: argparse.Action, key: str, value: Any) -> None:
    """Raise UserError for a value that the command would not take as a word."""
    if action.choices is not None and value not in action.choices:
        near = difflib.get_close_matches(str(value), [str(choice) for choice in action.choices], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(map(repr, action.choices))}."
        raise UserError(f"{key}={shown(value)}: {hint}")
    if callable(action.type) and not isinstance(action.type, type):
        try:
            action.type(str(value))
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UserError(f"{key}={shown(value)}: {error}.") from None


def words_of(data: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> list[str]:
    """`data=…` and `key.path=value` for keywords such as `input__min_size_test=600`."""
    words = [] if data is None else [f"data={os.fspath(data)}"]
    for key, value in settings.items():
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        text = (
            plain if isinstance(plain, str) else yaml.safe_dump(_lists(plain), default_flow_style=True).split("\n")[0]
        )
        words.append(f"{key.replace('__', '.')}={text}")
    return words


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
