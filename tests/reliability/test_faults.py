"""Writing that fails: the run goes on or ends with a sentence, and the checkpoint before is whole."""

import errno
from pathlib import Path

import pytest
from processes import finish, screen, start
from sabotage import Sabotage
from tiny_run import SETTINGS, assert_same_bits, write_dataset

from detector.training.checkpoint import find_damage, list_checkpoints

OFTEN = ["train.save_every=2", "train.evaluate_every=4", "train.iterations=8", "train.validation_loss=false"]
FAILURES = [("fsync", errno.EIO), ("rename", errno.EIO), ("replace", errno.ENOSPC), ("mkdir", errno.EROFS)]


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


@pytest.mark.parametrize("first", [0, 12])
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
    if first == 12:
        assert found
        assert "3rd failure in a row; make room and --resume from iteration" in last_line
    # With room again, the run goes on.
    assert finish([start(settings, output)]) == [0], screen(output)
