import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from detector.training.process.signals import StoppedError, StopSignals, exit_code, signal_name

CHILD = """
import sys, time
from detector.training.process.signals import StopSignals
with StopSignals() as stop:
    print("ready", flush=True)
    while not stop.received:
        time.sleep(0.01)
    print("saving", stop.received, flush=True)
    time.sleep(200 if sys.argv[1] == "slow" else 0)
sys.exit(128 + stop.received)
"""


def start(speed: str) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, speed], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_noted_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert stop.received == 0
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert stop.received == number
    assert signal.getsignal(number) is before


def send_and_wait() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def test_where_the_program_only_waits_a_signal_interrupts() -> None:
    with StopSignals() as stop:
        with pytest.raises(StoppedError), stop.at_once():
            send_and_wait()
        assert stop.received == signal.SIGTERM
        with pytest.raises(StoppedError), stop.at_once():
            pytest.fail("a signal that came before ends it at its start")


def test_what_native_code_makes_of_it_is_the_signal_too() -> None:
    with StopSignals() as stop:
        with pytest.raises(StoppedError), stop.at_once():
            report_another(stop)
        with pytest.raises(StoppedError), stop.at_once():
            pytest.fail("not reached")
    with StopSignals() as stop, pytest.raises(StoppedError), stop.at_once(), contextlib.suppress(BaseException):
        os.kill(os.getpid(), signal.SIGTERM)
    with StopSignals() as stop, pytest.raises(ValueError, match="its own"), stop.at_once():
        raise ValueError("its own")


def report_another(stop: StopSignals) -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except StoppedError:
        assert stop.received
        raise ValueError("could not determine the shape of an object") from None


def test_elsewhere_it_does_not() -> None:
    with StopSignals() as stop:
        with stop.at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert stop.received == signal.SIGTERM


def test_the_first_signal_lets_the_process_save() -> None:
    with start("fast") as child:
        child.send_signal(signal.SIGTERM)
        output, _ = child.communicate(timeout=100)
    assert output == f"saving {int(signal.SIGTERM)}\n"
    assert child.returncode == 143


def test_the_second_signal_ends_the_process_at_once() -> None:
    with start("slow") as child:
        child.send_signal(signal.SIGTERM)
        assert child.stdout is not None
        child.stdout.readline()
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        child.wait(timeout=300)
    assert time.monotonic() - began < 100
    assert child.returncode == -signal.SIGINT


def test_exit_codes_are_those_of_a_shell() -> None:
    assert (exit_code(signal.SIGINT), exit_code(signal.SIGTERM), exit_code(signal.SIGUSR1)) == (130, 143, 138)
    assert signal_name(15) == "SIGTERM"
