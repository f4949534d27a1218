import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from detector import command
from detector.command import run, spread
from detector.errors import UserError


def raising(error: BaseException) -> Callable[[], int | None]:
    def main() -> int | None:
        raise error

    return main


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_the_exit_code_is_what_main_returns(returned: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(lambda: returned)
    assert exit_.value.code == code


def test_what_a_user_must_fix_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(raising(UserError("photo.jpg does not exist; check the path.")))
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.err == "error: photo.jpg does not exist; check the path.\n"
    assert captured.out == ""


def test_an_interrupt_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(raising(KeyboardInterrupt()))
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours")])
def test_our_own_failures_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="ours"):
        run(raising(error))


def test_what_the_system_says_of_a_path_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(lambda: os.stat("a" * 300).st_size)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"error: {'a' * 300}: File name too long; check this path.\n"
    with pytest.raises(FileNotFoundError):  # which whoever asks for a file explains better
        run(lambda: os.stat("missing").st_size)


def test_the_wrong_opencv_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(raising(ImportError("libGL.so.1: cannot open shared object file: No such file or directory")))
    assert exit_.value.code == 2
    assert "pip install --force-reinstall --no-deps opencv-python-headless" in capsys.readouterr().err
    with pytest.raises(ImportError, match="libother"):
        run(raising(ImportError("libother.so")))


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    # The child starts to write only when the other end of its pipe is closed, and its buffer is flushed at its end.
    code = "import sys; from detector.command import run; run(lambda: (sys.stdin.read(), print('x'))[1])"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.stdin.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=60) == 0


def test_a_message_that_was_changed_later_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError("fine")
    error.args = ("photo\n\x1b[2J.jpg",)
    with pytest.raises(SystemExit):
        run(raising(error))
    assert capsys.readouterr().err == "error: photo\\n\\x1b[2J.jpg\n"


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/usr/bin/faster-rcnn", "train", "lr=1"], "faster-rcnn train lr=1"),
        (["tools/train_net.py", "--output", "my run"], "python tools/train_net.py --output 'my run'"),
        (["/a/detector/__main__.py", "report"], "python -m detector report"),
    ],
)
def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch, argv: list[str], typed: str) -> None:
    monkeypatch.setattr("sys.argv", argv)
    assert command.typed_command() == typed


@pytest.mark.parametrize(
    ("words", "spread_out"),
    [
        ("--weights a.pt b.pt", "--weights a.pt --weights b.pt"),
        ("--weights a b.pt photo.jpg", "--weights a --weights b.pt photo.jpg"),  # the first is taken whatever it is
        ("photo.jpg --weights a.pt x=1 b.pt", "photo.jpg --weights a.pt x=1 b.pt"),
        ("--weights=a.pt b.pt --device cpu c.pt", "--weights=a.pt --weights b.pt --device cpu c.pt"),
        ("--weights a.pt --weights b.pt c.pt", "--weights a.pt --weights b.pt --weights c.pt"),
        ("--weights a.pt -- b.pt", "--weights a.pt -- b.pt"),
        ("--weights", "--weights"),
    ],
)
def test_an_option_with_several_values(words: str, spread_out: str) -> None:
    assert spread(words.split(), "--weights", lambda word: word.endswith(".pt")) == spread_out.split()


def test_a_crash_of_compiled_code_says_where() -> None:
    code = "import faulthandler\nfrom detector import command\ncommand.run(faulthandler._sigsegv)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode < 0
    assert "Segmentation fault" in process.stderr
    assert "command.py" in process.stderr
