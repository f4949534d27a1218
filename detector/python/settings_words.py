"""Settings that are given as Python's keywords, as the words of the command line."""

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any

import yaml


def arguments_of(add_arguments: Callable[[argparse.ArgumentParser], None], **given: Any) -> argparse.Namespace:
    """What a command's words become: its defaults, and in their place what is given and is not None."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    defaults = {action.dest: parser.get_default(action.dest) for action in parser._actions if action.dest != "help"}
    return argparse.Namespace(**defaults | {key: value for key, value in given.items() if value is not None})


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
