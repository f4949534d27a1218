"""Being asked to stop: SIGTERM and SIGUSR1 from schedulers, SIGINT from Ctrl-C, SIGHUP from a terminal that closes."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

# SIGHUP: the terminal is gone. Windows has neither it nor SIGUSR1.
HANDLED = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]


class StoppedError(BaseException):
    """Raised for a signal that comes while nothing has to be finished.

    Like KeyboardInterrupt it is not an `Exception`, so that handlers of failures let it pass.
    """


class StopSignals:
    """While active, the first signal is noted in `received` and a second one ends the process at once.

    The training loop looks at `received` between steps, saves, and leaves; where it only waits, it waits `at_once`.
    After the first signal the handlers are the system's own, so the second needs no Python code to run and works in the
    middle of a long computation too. Worker processes forked meanwhile inherit the handlers and do nothing, so that a
    Ctrl-C, which reaches them as well, does not take the data loader away from under the step that is to be finished.

    The former handlers are restored at the end. In another thread than the main one, which alone may handle signals,
    there are none: what is noted is then only what `request` is told.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number; 0: none so far
        self._before: dict[int, Any] = {}
        self._process = os.getpid()
        self._interrupting = False

    def request(self, number: int) -> None:
        """Ask the run to stop at its next step, as this signal would; from any thread."""
        self.received = number

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in HANDLED:
            # nohup has a process ignore SIGHUP, and means it.
            if not (signal.Signals(number).name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this context, a signal interrupts whatever is going on.

        That may be native code which calls Python and takes its exception for a failure, reports another, or goes on
        without: what follows the signal counts for nothing. So nothing belongs inside that renames or deletes files
        because they could not be read.

        Raises:
            StoppedError: wherever the program is when the signal comes, at the start if it has come before, and at the
                end if it was lost.
        """
        self._interrupting = True
        try:
            if self.received:
                raise StoppedError
            yield
        except Exception as error:
            if self.received:
                raise StoppedError from error
            raise
        else:
            if self.received:
                raise StoppedError
        finally:
            self._interrupting = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        self.received = number
        for handled in self._before:
            signal.signal(handled, signal.SIG_DFL)
        if self._interrupting:
            raise StoppedError


def exit_code(number: int) -> int:
    """What a shell reports for a process that a signal ended: 130 for SIGINT, 143 for SIGTERM, 138 for SIGUSR1
    (on Linux).

    A run that was asked to stop is not a finished one, so schedulers must not see 0.
    """
    return 128 + number


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGTERM for 15."""
    return signal.Signals(number).name
