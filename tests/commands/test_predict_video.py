"""Videos by the command: killed twenty times they lose nothing, and memory does not grow with their frames."""

import json
import random
from functools import partial
from pathlib import Path

import cv2
import pytest
from killed_videos import PLACES, die_at
from memory_peak import peak_memory
from predictions import predict_in_processes
from sabotage import KILL
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.commands.main import main
from detector.inference.video.frames import open_video
from detector.weights.files import save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "traffic light"), Category(90, "猫")))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(inputs={"min_size_test": 48, "max_size_test": 96})
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})
    return path


def write_video(path: Path, frames: int) -> Path:
    """Noise that moves."""
    noise = random_batch([(48, 64 + 100)]).pixels[0].permute(1, 2, 0).numpy()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(frames):
        writer.write(noise[:, number % 100 : number % 100 + 64].copy())
    writer.release()
    return path


def words(video: Path, weights: Path, output: Path, *more: str) -> list[str]:
    common = ["--weights", str(weights), "--output", str(output), "--score-threshold", "0.6", "--device", "cpu"]
    return [str(video), *common, *more]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.slow
def test_killed_twenty_times_at_random_frames_nothing_is_lost(weights: Path, tmp_path: Path, batch_size: int) -> None:
    frames, choose, size = 600, random.Random(batch_size), f"--batch-size={batch_size}"
    video = write_video(tmp_path / "clip.avi", frames)
    assert main(["predict", *words(video, weights, tmp_path / "whole", size)]) == 0
    reached = 0
    for _ in range(20):
        reached += choose.randrange(frames // 20)
        die = partial(die_at, reached, choose.choice(PLACES[:3]))
        command = words(video, weights, tmp_path / "out", size, "--resume")
        codes = predict_in_processes(command, tmp_path / "screens", prepare=die)
        assert codes == [-KILL], (tmp_path / "screens/0.txt").read_text()
        assert (tmp_path / "out/clip.avi.jsonl").read_bytes().count(b"\n") <= reached + 1
    assert (tmp_path / "out/.clip.annotated.pieces").is_dir()
    assert predict_in_processes(command, tmp_path / "screens") == [0]
    lines = (tmp_path / "out/clip.avi.jsonl").read_bytes()
    assert lines == (tmp_path / "whole/clip.avi.jsonl").read_bytes()
    assert [json.loads(line)["frame"] for line in lines.splitlines()] == list(range(frames))
    for folder in ("out", "whole"):
        assert open_video(tmp_path / folder / "clip.annotated.mp4").announced == frames
        assert not (tmp_path / folder / ".clip.annotated.pieces").exists()


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_frames(weights: Path, tmp_path: Path) -> None:
    short, long = (write_video(tmp_path / f"{frames}.avi", frames) for frames in (300, 2000))
    peaks = []
    for number, video in enumerate((short, short, long)):  # the first pays for what stays
        with peak_memory() as peak:
            assert main(["predict", *words(video, weights, tmp_path / str(number))]) == 0
        peaks.append(peak.bytes / 2**20)
    print(f"MiB of 300, 300 and 2000 frames: {', '.join(f'{one:.1f}' for one in peaks)}")
    assert peaks[2] < peaks[1] + 8
    assert (
        (tmp_path / "2/2000.avi.jsonl").read_bytes().count(b"\n")
        == open_video(tmp_path / "2/2000.annotated.mp4").announced
        == 2000
    )
