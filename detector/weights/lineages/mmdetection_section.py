"""A mapping of mmdetection's config, of which every value is asked for, ignored by name, or refused by name."""

from collections.abc import Mapping
from typing import Any, TypeVar

from detector.errors import shown

T = TypeVar("T")


class Section:
    """One mapping of a config, read key by key.

    Args:
        values: the mapping, or whatever stands in its place.
        path: its key, as `model.backbone`, for messages.
        problems: what cannot be honoured is added here, as `key=value (why)`.
    """

    def __init__(self, values: Any, path: str, problems: list[str]) -> None:
        self.path = path
        self.problems = problems
        if not isinstance(values, Mapping):
            problems.append(f"{path}={shown(values)} (here a mapping)")
            values = {}
        self._left = dict(values)

    def __contains__(self, key: str) -> bool:
        """Whether the key is there with a value, and was not asked for yet."""
        return self._left.get(key) is not None

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key; the default where it is not there or None."""
        value = self._left.pop(key, None)
        return default if value is None else value

    def name(self, key: str = "type") -> str:
        """The name of a class, without the modules that newer configs write before it."""
        return str(self.take(key, "")).rpartition(".")[2]

    def section(self, key: str) -> "Section":
        """The mapping under a key; empty where there is none."""
        return Section(self.take(key, {}), f"{self.path}.{key}", self.problems)

    def number(self, key: str, default: float | None = None) -> float:
        """A number. One that is missing without a default, or is none, is a problem."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, value, "here a number")
            return 1
        return value

    def numbers(self, key: str, count: int | None = None, default: tuple[float, ...] | None = None) -> list[float]:
        """A list of numbers, `count` of them where that is given."""
        value = self.take(key, default)
        if not is_numbers(value) or count not in (None, len(value)):
            self.refuse(key, value, f"here {count or 'a list of'} numbers")
            return [1.0] * (count or 1)
        return list(value)

    def choice(self, key: str, choices: Mapping[str, T]) -> T:
        """What a name stands for; the first choice for one that is not there."""
        value = self.take(key)
        if value is None or not isinstance(value, str) or value not in choices:
            if value is not None:
                self.refuse(key, value, f"here {' or '.join(choices)}")
            return next(iter(choices.values()))
        return choices[value]

    def only(self, key: str, *allowed: Any) -> None:
        """A key of which only these values exist here, the first of them being mmdetection's default."""
        value = self.take(key, allowed[0])
        if as_lists(value) not in [as_lists(one) for one in allowed]:
            self.refuse(key, value, f"here {' or '.join(shown(one) for one in allowed)}")

    def ignore(self, *keys: str) -> None:
        """Keys on which detections do not depend."""
        for key in keys:
            self._left.pop(key, None)

    def refuse(self, key: str, value: Any, why: str) -> None:
        """A value that cannot be honoured."""
        self.problems.append(f"{self.path}.{key}={shown(value)} ({why})")

    def finish(self) -> None:
        """All that was not asked for is a problem."""
        for key, value in self._left.items():
            if value is not None:
                self.refuse(str(key), value, "unknown here")
        self._left = {}


def is_numbers(value: Any) -> bool:
    """Whether a value is a list or tuple of numbers, and not empty."""
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def as_lists(value: Any) -> Any:
    """A tuple as a list, also within one: configs are dumped with either."""
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value
