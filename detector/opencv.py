"""What calls of OpenCV need that its own bindings do not give."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Those that programs are stopped with; looking through all 64 would take longer than the calls in question.
STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGALRM") if hasattr(signal, name)
]

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, what Python does on a signal to stop, such as raising KeyboardInterrupt, waits for the end.

    Where a function has several forms, OpenCV's bindings try one after the other, and the process crashes (SIGSEGV)
    if a signal's handler raises while the message of a form that does not fit is being made; seen with version 5.0. So
    a function whose first form is not the one that is meant, such as `cv2.putText` with a font, is called in here.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread alone
        yield
        return
    held: dict[int, Handler] = {}
    arrived: list[int] = []
    try:
        for number in STOPPING:
            handler = signal.getsignal(number)
            if callable(handler):
                held[number] = handler
                signal.signal(number, lambda number, _frame: arrived.append(number))
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for number in arrived:
            signal.raise_signal(number)
