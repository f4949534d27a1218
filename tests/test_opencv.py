import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from detector.opencv import undisturbed


class StopError(Exception):
    pass


@pytest.fixture
def interruptible() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise StopError

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_waits_for_the_end_and_is_not_lost() -> None:
    done = []

    def work() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            done.append("all of it")

    with pytest.raises(StopError):
        work()
    assert done
    with pytest.raises(StopError):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("interruptible")
def test_a_failure_inside_keeps_the_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), undisturbed():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGTERM) is before


# A signal that arrives while OpenCV looks for the form of a function that fits: `PyErr_SetInterruptEx` marks it as
# arrived, and as `map` and `operator.call` are no Python code, nothing sees it before OpenCV does.
STOPPED_WHILE_WRITING = """
import ctypes, operator, signal, sys
from functools import partial

import cv2

from detector.drawing.text import text_mask

arrive = partial(ctypes.pythonapi.PyErr_SetInterruptEx, int(signal.SIGTERM))

def in_the_middle(name):
    whole = getattr(cv2, name)
    setattr(cv2, name, lambda *args: list(map(operator.call, (arrive, partial(whole, *args))))[1])

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
in_the_middle(sys.argv[1])
text_mask("cat 0.98", 14)
"""


@pytest.mark.parametrize("function", ["getTextSize", "putText"])
def test_a_signal_while_text_is_drawn_does_not_crash(function: str) -> None:
    words = [sys.executable, "-X", "faulthandler", "-c", STOPPED_WHILE_WRITING, function]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert process.returncode == 143, process.stderr
