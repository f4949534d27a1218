"""Ways to ruin a run from inside it: a call of the system, a step or a loss that goes wrong."""

import builtins
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.training import engine
from detector.training.run import set_up

Function = Callable[..., Any]

HELD_UP = "held up"  # what a sabotaged function says before it waits
STRUCK = "sabotage:"  # what the screen shows where an error was raised
THERE = ", of a folder that is there"
MAKE_FOLDER = os.mkdir
KILL, TERMINATE = signal.SIGKILL, signal.SIGTERM


@dataclass(frozen=True)
class Sabotage:
    """What goes wrong in a run.

    function: of the module `os`, whose call number `call` (from 0) is where it happens; or `write`, to a file that
    `open` has opened, of which half is then written; or `open_data` or `step` of this process; or `loss`, for a step
    whose loss is then not a number, or `gradient`, for one with a gradient that is infinite. signal: to send to the
    process itself at that moment. seconds: to hang there first. error: or the OSError to raise there instead, for this
    call and the `more` that follow.
    """

    function: str
    call: int
    signal: int = 0
    seconds: float = 0
    error: int = 0
    more: int = 0


class _Moment:
    """Counts calls, and lets go wrong what is to go wrong."""

    def __init__(self, sabotage: Sabotage) -> None:
        self._sabotage = sabotage
        self._calls = -1

    def has_come(self) -> bool:
        self._calls += 1
        return 0 <= self._calls - self._sabotage.call <= self._sabotage.more

    def strike(self, folder: str | Path | None = None) -> None:
        """Let it go wrong. folder: that was to be made, if that is what goes wrong."""
        if self._sabotage.seconds:
            print(f"{HELD_UP} in {self._sabotage.function}", file=sys.stderr, flush=True)
        time.sleep(self._sabotage.seconds)
        if self._sabotage.error:
            there = THERE if folder is not None and Path(folder).is_dir() else ""
            print(f"{STRUCK} {self._sabotage.function}, call {self._sabotage.call}{there}", file=sys.stderr)
            raise OSError(self._sabotage.error, os.strerror(self._sabotage.error))
        if self._sabotage.signal:
            os.kill(os.getpid(), self._sabotage.signal)


class _File:
    """An open file that passes everything on, but of a write that goes wrong only the first half."""

    def __init__(self, file: Any, moment: _Moment) -> None:
        self._file, self._moment = file, moment

    def write(self, data: Any) -> int:
        if self._moment.has_come():
            half = self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._moment.strike()
            return half + int(self._file.write(data[len(data) // 2 :]))
        return int(self._file.write(data))

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def sabotaged(sabotage: Sabotage | None) -> Iterator[None]:
    """Inside, in this process and those that it forks, it goes wrong."""
    if sabotage is None:
        yield
        return
    moment = _Moment(sabotage)
    owner: Any
    owner, name, ruined = {
        "write": (builtins, "open", _ruined_open),
        "open_data": (set_up, "open_data", _ruined),
        "step": (engine, "forward_backward", _ruined),
        "loss": (engine, "forward_backward", _spoilt),
        "gradient": (engine, "forward_backward", _overflowing),
    }.get(sabotage.function, (os, sabotage.function, _ruined))
    real = getattr(owner, name)
    setattr(owner, name, ruined(real, moment))
    try:
        yield
    finally:
        setattr(owner, name, real)


def _ruined(real: Function, moment: _Moment) -> Function:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        if moment.has_come():
            moment.strike(args[0] if real is MAKE_FOLDER else None)
        return real(*args, **kwargs)

    return stand_in


def _ruined_open(real: Function, moment: _Moment) -> Function:
    def stand_in(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = real(path, mode, *args, **kwargs)
        return file if mode in ("r", "rb", "rt") else _File(file, moment)

    return stand_in


def _spoilt(real: Function, moment: _Moment) -> Function:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        losses = real(*args, **kwargs)
        if moment.has_come():
            return [one | {"rpn_box": one["rpn_box"] * float("nan")} for one in losses]
        return losses

    return stand_in


def _overflowing(real: Function, moment: _Moment) -> Function:
    def stand_in(joint: Any, *args: Any, **kwargs: Any) -> Any:
        losses = real(joint, *args, **kwargs)
        if moment.has_come():
            next(p.grad for p in joint.parameters() if p.grad is not None).fill_(float("inf"))
        return losses

    return stand_in
