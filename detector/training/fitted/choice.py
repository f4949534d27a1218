"""One choice of a fitted recipe, and all of them as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_LINE = 110  # characters of a line of settings


@dataclass(frozen=True)
class Choice:
    """What is chosen about one topic.

    topic: what it is about, a word or two. values: settings by dotted names. reason: why, for people, one line.
    warning: what the set makes difficult whatever is chosen, or None.
    """

    topic: str
    values: Mapping[str, Any]
    reason: str
    warning: str | None = None


def describe_choices(choices: Sequence[Choice], given: Mapping[str, Any]) -> list[str]:
    """A heading, and for each choice its settings and its reason; settings that the user gave are marked.

    Args:
        given: what the user has set, by dotted names.
    """
    width = max(len(choice.topic) for choice in choices)
    lines = ["the recipe fitted to this set; config.yaml in the output folder repeats it without the folder's word:"]
    for choice in choices:
        shown = [
            f"{key}={_plain(given[key])} (given)" if key in given else f"{key}={_plain(value)}"
            for key, value in choice.values.items()
        ]
        lines.append(f"  {choice.topic:<{width}}  {choice.reason}")
        lines += [f"  {'':<{width}}    {line}" for line in _wrapped(shown)]
    lines += [f"warning: {choice.warning}" for choice in choices if choice.warning is not None]
    return lines


def _wrapped(words: Sequence[str]) -> list[str]:
    """Words as lines of at most `LONGEST_LINE` characters, unless one word alone has more."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 2 <= LONGEST_LINE:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
