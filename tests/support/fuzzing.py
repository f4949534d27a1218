"""Broken inputs made from good ones, and the promise that each of them must keep.

Everything is drawn from a seed, so a failure is repeated by its number alone.
"""

import faulthandler
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from types import FrameType
from typing import Any

import pytest
from memory_peak import peak_memory

from detector.errors import UserError

SECONDS = 1.0  # of processor time for one input
MEMORY = 400e6  # bytes that the peak of the process may rise by
MESSAGE = 800  # characters
HANG = 10.0  # seconds of processor time after which an input is interrupted

# What a value of a JSON or YAML file may be replaced by. Those in angle brackets stand for text that no value writes.
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    0.5,
    1e308,
    -0.0,
    2**31,
    2**63,
    -(2**63) - 1,
    10**30,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    " ",
    "1",
    "nan",
    "../../etc/passwd",
    "/dev/null",
    "line\nbreak",
    "\x00\x1b[31m",
    "\ud800",
    "ü" * 50,
    "x" * 20_000,
    [],
    {},
    [None],
    [[]],
    {"id": 1},
    {"": ""},
    [1, 2, 3],
    [0, 0, 0, 0],
    [-5, -5, 1e300, 1e300],
    list(range(2000)),
    "<deep>",
    "<digits>",
    "<exponent>",
)
RAW = {"<deep>": "[" * 900 + "]" * 900, "<digits>": "9" * 5000, "<exponent>": "1e999"}


class Hang(BaseException):
    """The input took far too long."""


def seeds(default: int, total: int) -> list[Any]:
    """Parameters of a test: `default` seeds in the quick run, all `total` with `-m slow`."""
    return [
        pytest.param(range(default), id=f"{default} inputs"),
        pytest.param(range(total), id=f"{total} inputs", marks=pytest.mark.slow),
    ]


def survive(read: Callable[[], object], name: str, seed: int) -> str | None:
    """Read a broken input.

    Args:
        read: raises UserError, or nothing.
        name: what every refusal must name.
        seed: of the input, for the report.

    Returns:
        The refusal, or None where the input was taken.
    """
    began = time.process_time()
    message = None
    try:
        with peak_memory() as peak, _interrupted_when_hanging():
            read()
    except UserError as error:
        message = str(error)
    except BaseException as error:
        error.add_note(f"seed {seed}: an exception other than UserError")
        raise
    if time.process_time() - began >= SECONDS:  # a collection of what other tests left in the process may lie in it
        began = time.process_time()
        with suppress(UserError), _interrupted_when_hanging():
            read()
        assert time.process_time() - began < SECONDS, f"seed {seed}: took too long, twice"
    assert peak.bytes < MEMORY, f"seed {seed}: took too much memory"
    if message is not None:
        assert message.strip(), f"seed {seed}: an empty refusal"
        assert message.isprintable(), f"seed {seed}: not one line: {message!r}"
        assert name in message, f"seed {seed}: does not name {name}: {message!r}"
        assert len(message) < MESSAGE, f"seed {seed}: {len(message)} characters: {message[:300]!r} …"
    return message


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """One to four edits, most of them near the beginning and the end, where headers and directories are."""
    content = bytearray(data)
    for _ in range(random.randint(1, 4)):
        length = len(content)
        if length == 0:
            return bytes(random.randbytes(random.randint(0, 40)))
        start = _place(length, random)
        size = random.choice((1, 1, 2, 4, 8, random.randint(1, 200)))
        edit = random.randrange(8)
        if edit == 0:
            content[start] ^= 1 << random.randrange(8)
        elif edit == 1:
            content[start : start + size] = random.randbytes(size)
        elif edit == 2:
            content[start:start] = random.randbytes(size)
        elif edit == 3:
            del content[start : start + size]
        elif edit == 4:
            content[start:start] = content[start : start + size]
        elif edit == 5:
            content[start : start + 4] = random.choice(
                (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
            )
        elif edit == 6:
            other = random.randrange(length)
            content[start : start + size], content[other : other + size] = (
                content[other : other + size],
                content[start : start + size],
            )
        else:
            del content[start:]
    return bytes(content)


def _place(length: int, random: Random) -> int:
    """Where to edit."""
    near = random.choice((64, 2000, -300, length))
    reach = random.randrange(min(length, abs(near)))
    return length - 1 - reach if near < 0 else reach


def mutate_tree(value: Any, random: Random) -> Any:
    """One to three nodes replaced, removed, repeated or renamed."""
    for _ in range(random.randint(1, 3)):
        path = random.choice(list(_paths(value)))
        value = _changed(value, path, random)
    return value


def to_json(value: Any) -> bytes:
    """With what no value writes put in by hand."""
    text = json.dumps(value)
    for mark, raw in RAW.items():
        text = text.replace(json.dumps(mark), raw)
    return text.encode()


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield prefix
    if isinstance(value, dict):
        for key in value:
            yield from _paths(value[key], (*prefix, key))
    elif isinstance(value, list) and len(value) < 1000:
        for place, item in enumerate(value):
            yield from _paths(item, (*prefix, place))


def _changed(value: Any, path: tuple[Any, ...], random: Random) -> Any:
    if not path:
        return random.choice(HOSTILE) if random.random() < 0.2 else value
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = path[0]
    if len(path) > 1:
        copy[key] = _changed(copy[key], path[1:], random)
        return copy
    edit = random.randrange(8)
    if edit == 0:
        del copy[key]
    elif edit == 1 and isinstance(copy, list):
        copy.append(copy[key])
    elif edit == 1 and isinstance(copy, dict):
        copy[random.choice(("", "id", "name", str(key).upper(), "x" * 5000, "a\nb"))] = copy.pop(key)
    elif edit == 2:
        copy[key] = [copy[key]]
    else:
        copy[key] = random.choice(HOSTILE)
    return copy


@contextmanager
def _interrupted_when_hanging() -> Iterator[None]:
    """Python code that hangs is interrupted; code inside of a library ends the process with a traceback."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    old = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, HANG)
    faulthandler.dump_traceback_later(60 * HANG, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
