"""Writing that fails: the run goes on or ends with a sentence, and the checkpoint before is whole."""

import contextlib
import errno
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import finish, screen, start, wait_for
from sabotage import STRUCK, THERE, Sabotage
from tiny_run import SETTINGS, assert_same_bits, write_dataset

from detector.training.state.checkpoint import find_damage
from detector.training.state.checkpoint_names import list_checkpoints

OFTEN = ["train.save_every=2", "train.evaluate_every=4", "train.iterations=8", "train.validation_loss=false"]
FAILURES = [
    ("write", errno.ENOSPC),
    ("fsync", errno.EIO),
    ("rename", errno.EIO),
    ("replace", errno.ENOSPC),
    ("mkdir", errno.EROFS),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*SETTINGS, *write_dataset(tmp_path_factory.mktemp("data")), *OFTEN]


@pytest.fixture(scope="module")
def straight(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("straight") / "run"
    assert finish([start(settings, output)]) == [0], screen(output)
    return output


@pytest.mark.parametrize(("function", "code"), FAILURES)
def test_a_single_failure_never_ends_the_run(
    settings: list[str], straight: Path, tmp_path: Path, function: str, code: int
) -> None:
    output = tmp_path / "run"
    assert finish([start(settings, output, Sabotage(function, 5, error=code))]) == [0], screen(output)
    assert "warning: " in screen(output)
    assert_same_bits(straight / "model_final.safetensors", output / "model_final.safetensors")
    for checkpoint in list_checkpoints(output / "checkpoints"):
        assert find_damage(checkpoint) is None


@pytest.mark.parametrize("first", [0, 16])  # 16 syncs and more: the first checkpoint is whole
def test_a_disk_that_stays_full_ends_it_with_a_sentence(settings: list[str], tmp_path: Path, first: int) -> None:
    output = tmp_path / "run"
    full = Sabotage("fsync", first, error=errno.ENOSPC, more=10**6)
    assert finish([start(settings, output, full)]) == [2]
    last_line = screen(output).splitlines()[-1]
    assert last_line.startswith("error: ")
    assert "No space left on device" in last_line
    assert "Traceback" not in screen(output)
    found = list_checkpoints(output / "checkpoints")
    assert all(find_damage(checkpoint) is None for checkpoint in found)
    if first == 16:
        assert found
        assert "3rd failure in a row; make room and --resume from iteration" in last_line
    # With room again, the run goes on.
    assert finish([start(settings, output)]) == [0], screen(output)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "more"), [(1, 0), (4, 10**6)], ids=["once", "from then on"])
@pytest.mark.parametrize(("function", "code"), FAILURES)
def test_whichever_call_fails_the_run_goes_on_or_ends_with_a_sentence(
    settings: list[str], tmp_path: Path, function: str, code: int, every: int, more: int
) -> None:
    few = [*settings, "train.iterations=4", "train.evaluate_every=0"]
    assert finish([start(few, tmp_path / "straight")]) == [0]
    for call in itertools.count(step=every):
        output = tmp_path / f"{call}"
        (ended,) = finish([start(few, output, Sabotage(function, call, error=code, more=more))])
        shown = screen(output)
        struck = [line for line in shown.splitlines() if line.startswith(STRUCK)]
        if not struck:
            break  # there are fewer such calls
        # Making a folder that is there already may fail without loss; any other failure is said.
        harmless = function == "mkdir" and all(line.endswith(THERE) for line in struck)
        assert ended in (0, 2), shown
        assert "Traceback" not in shown
        complaints = [line for line in shown.splitlines() if "warning: " in line or line.startswith("error: ")]
        assert os.strerror(code) in "".join(complaints) or harmless, shown
        assert (ended == 2) == shown.splitlines()[-1].startswith("error: ")
        for checkpoint in list_checkpoints(output / "checkpoints"):
            assert find_damage(checkpoint) is None
        if ended:
            assert finish([start(few, output)]) == [0], screen(output)
        assert_same_bits(tmp_path / "straight/model_final.safetensors", output / "model_final.safetensors")
    assert call >= 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a file system of 8 MB of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_and_is_cleared(settings: list[str], small_disk: Path, tmp_path: Path) -> None:
    long = [*settings, "train.iterations=200", "train.evaluate_every=0"]
    assert finish([start(long, tmp_path / "straight")]) == [0]
    process = start(long, small_disk)
    wait_for("iteration 20/", process, small_disk)
    fill(small_disk / "filler")
    assert finish([process]) == [2]
    assert "3rd failure in a row; make room and --resume from iteration" in screen(small_disk).splitlines()[-1]
    assert finish([start(long, small_disk)]) == [2]
    last_line = screen(small_disk).splitlines()[-1]
    assert last_line.startswith("error: ")
    assert "No space left on device" in last_line
    assert "Traceback" not in screen(small_disk)
    found = list_checkpoints(small_disk / "checkpoints")
    assert found
    assert all(find_damage(checkpoint) is None for checkpoint in found)

    (small_disk / "filler").unlink()
    assert finish([start(long, small_disk)]) == [0]
    assert_same_bits(tmp_path / "straight/model_final.safetensors", small_disk / "model_final.safetensors")


def fill(path: Path) -> None:
    """Write until there is no room left, not for a byte."""
    for block in (2**16, 2**12, 1):
        with open(path, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(block)):
                pass


@pytest.mark.slow
def test_a_disk_that_is_read_only_is_said_before_training(settings: list[str], small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert finish([start(settings, small_disk)]) == [2]
    assert screen(small_disk) == (
        f"error: {small_disk}: the output folder cannot be written (Read-only file system); choose another with "
        "--output.\n"
    )
