"""What all commands share: the words that several take, exit codes, and one sentence instead of a traceback."""

from __future__ import annotations

import argparse
import errno
import faulthandler
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from detector.errors import UserError
from detector.printing import printable

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
PRECISIONS = ("auto", "float32", "tf32", "bfloat16")  # of detection: `arithmetic.AskedPrecision`, without torch

# What a system answers about a path that somebody named, and never because of a fault of ours.
_REFUSALS = frozenset(
    (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
)


def typed_command() -> str:
    """The command line of this process, as it can be typed again."""
    script = Path(sys.argv[0])
    program = ["python", str(script)] if script.suffix == ".py" else [script.name]
    if script.name == "__main__.py":
        program = ["python", "-m", script.parent.name]
    return shlex.join([*program, *sys.argv[1:]])


def whole(text: str) -> int:
    """The `type` of an argparse argument that is a whole number: 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("choose 0 or more")
    return number


def fraction(text: str) -> float:
    """The `type` of an argparse argument in [0, 1]."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("choose 0 to 1")
    return number


def positive(text: str) -> int:
    """The `type` of an argparse argument that counts something: 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("choose 1 or more")
    return number


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """--device, spelled alike by every command."""
    parser.add_argument(
        "--device", default="auto", help="auto (the best there is), cpu, cuda, cuda:N or mps (default: %(default)s)"
    )


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how a command runs a trained network."""
    add_device_argument(parser)
    parser.add_argument("--plain", action="store_true", help="use the network as written, not its fast execution")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="bfloat16 is about twice as fast, its detections nearly the same; tf32 is an NVIDIA GPU's own mode; auto "
        "is bfloat16 on an NVIDIA GPU that has it, else float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="use torch.compile too: slow first pictures; for thousands on a GPU"
    )
    parser.add_argument("--batch-size", type=positive, help="pictures per pass (default: 1 on the CPU, 4 elsewhere)")


def add_augment_argument(parser: argparse.ArgumentParser) -> None:
    """--augment, of the commands that detect in pictures."""
    parser.add_argument(
        "--augment",
        action="store_true",
        help="look at each picture several times and average what is seen: more AP, slower; how is said by "
        "model.detection.augment.… (form, scales, …), by default also mirrored",
    )


def spread(words: Sequence[str], option: str, belongs: Callable[[str], bool]) -> list[str]:
    """`--weights A B photo.jpg` as `--weights A --weights B photo.jpg`, which argparse cannot tell apart by itself.

    Args:
        words: of the command line.
        option: which may be given several values, and takes its first whatever it is.
        belongs: whether a further word is a value of the option.
    """
    spread_out: list[str] = []
    values = -1  # of the option so far; −1 elsewhere
    for place, word in enumerate(words):
        if word == "--":
            return [*spread_out, *words[place:]]
        if word.startswith("-"):
            values = 1 if word.startswith(f"{option}=") else 0 if word == option else -1
        elif values >= 1 and belongs(word):
            spread_out.append(option)
        elif values >= 1:
            values = -1
        elif values == 0:
            values = 1
        spread_out.append(word)
    return spread_out


def choose_wait_policy() -> None:
    """Have OpenMP's threads sleep while they wait for each other, unless the user has chosen; before torch is imported.

    Threads that spin take the processor from the ones that they wait for as soon as anything else runs on the machine:
    two threads then train three to six times slower than alone. Sleeping costs a tenth or two where nothing else runs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def is_first_process() -> bool:
    """Whether this is the launcher's first process, or the only one; known before they have joined in a group."""
    return os.environ.get("RANK", "0") == "0"


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call a command's `main` and exit: 0 (or what it returns), 2 with one sentence for a `UserError`, 130 on Ctrl-C.

    2 and a sentence too where the system refuses a path, whoever asks for it (`_REFUSALS`). Anything else is our own
    failure and keeps its traceback (exit code 1). A crash of compiled code says where.
    """
    choose_wait_policy()
    if not faulthandler.is_enabled():
        with suppress(io.UnsupportedOperation, RuntimeError):  # where standard error is no file
            faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or a pipe that lacks a character, say of a class name, shows its code and is no failure.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except ImportError as error:
        if "libGL" not in str(error):
            raise
        # opencv-python, which some other package brought, has taken the place of the headless build that is ours.
        print(
            "error: OpenCV's build for screens is installed and finds no screen libraries here; run `pip uninstall -y "
            "opencv-python && pip install --force-reinstall --no-deps opencv-python-headless`.",
            file=sys.stderr,
        )
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has left, and nobody is to be told; what is still buffered goes nowhere,
        # else the interpreter would fail on it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in _REFUSALS or error.filename is None:
            raise
        print(f"error: {printable(error.filename)}: {error.strerror}; check this path.", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    sys.exit(code or 0)
