"""Videos: every frame has its line; a kill at any moment and a resume leave what an unbroken run leaves."""

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from detector.categories import Category, CategoryMap
from detector.errors import UserError
from detector.inference.detections import Detections
from detector.inference.video.detect_video import VideoResult, detect_video
from detector.inference.video.frame_log import FrameLog
from detector.inference.video.frames import is_video, open_video, read_frames

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "犬")))
FRAMES, SIZE = 60, (48, 64)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames whose brightness is their number, and a white square that moves."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, SIZE[::-1])
    for number in range(FRAMES):
        image = np.full((*SIZE, 3), 2 * number, np.uint8)
        image[10:20, number % 50 : number % 50 + 10] = 255
        writer.write(image)
    writer.release()
    return path


def brightness(images: Sequence[np.ndarray]) -> list[Detections]:
    """A detector whose box and score depend on every pixel of the frame."""
    return [
        Detections(
            torch.tensor([[0.0, 0.0, float(image.mean()) / 4, 20.0]]),
            torch.tensor([float(image.std()) / 256]),
            torch.tensor([1 + int(image.mean()) % 2]),
            SIZE,
            CATEGORIES,
        )
        for image in images
    ]


def run(
    video: Path,
    folder: Path,
    resume: bool = False,
    every: int = 1,
    batch_size: int = 1,
    pause: float = 0.0,
    drawn: bool = True,
) -> VideoResult:
    def detect(images: Sequence[np.ndarray]) -> list[Detections]:
        time.sleep(pause)
        return brightness(images)

    log = FrameLog(folder / "clip.jsonl", {"threshold": 0.5}, every, batch_size)
    return detect_video(open_video(video), detect, CATEGORIES, log, folder / "clip.mp4" if drawn else None, resume)


def test_every_frame_has_its_line_and_its_picture(video: Path, tmp_path: Path) -> None:
    assert run(video, tmp_path) == VideoResult(FRAMES, 0, FRAMES, 0)
    lines = [json.loads(line) for line in (tmp_path / "clip.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert lines[30]["time"] == 1.5
    (one,) = lines[0]["detections"]
    assert set(one) == {"category_id", "category_name", "bbox", "score"}
    drawn = open_video(tmp_path / "clip.mp4")
    assert (drawn.announced, drawn.rate) == (FRAMES, 20.0)
    assert next(read_frames(drawn)).image.shape == (*SIZE, 3)
    assert not list(tmp_path.glob(".*partial*"))


def test_every_third_frame(video: Path, tmp_path: Path) -> None:
    assert run(video, tmp_path, every=3).frames == 20
    lines = [json.loads(line) for line in (tmp_path / "clip.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["frame"] for line in lines] == list(range(0, FRAMES, 3))
    assert open_video(tmp_path / "clip.mp4").announced == 20


@pytest.mark.parametrize(("every", "batch_size"), [(1, 1), (2, 4)])
def test_a_file_cut_at_any_byte_is_gone_on_with(video: Path, tmp_path: Path, every: int, batch_size: int) -> None:
    run(video, tmp_path / "whole", every=every, batch_size=batch_size, drawn=False)
    whole = (tmp_path / "whole/clip.jsonl").read_bytes()
    choose = random.Random(every)
    run(video, tmp_path, every=every, batch_size=batch_size, drawn=False)
    for cut in (0, 1, len(whole) - 1, len(whole), *(choose.randrange(len(whole)) for _ in range(4))):
        (tmp_path / "clip.jsonl").write_bytes(whole[:cut])
        result = run(video, tmp_path, resume=True, every=every, batch_size=batch_size, drawn=False)
        assert (tmp_path / "clip.jsonl").read_bytes() == whole
        assert result.resumed <= whole[:cut].count(b"\n")
        assert result.resumed % batch_size == 0


def kill_then_resume(video: Path, folder: Path, seed: int) -> None:
    run(video, folder / "whole", drawn=False)
    choose = random.Random(seed)
    for attempt in range(3):
        child = os.fork()
        if child == 0:
            try:
                run(video, folder, resume=attempt > 0, pause=0.005)
            finally:
                os._exit(0)
        time.sleep(choose.uniform(0.01, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    run(video, folder, resume=True)
    assert (folder / "clip.jsonl").read_bytes() == (folder / "whole/clip.jsonl").read_bytes()
    assert open_video(folder / "clip.mp4").announced == FRAMES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_three_times_and_resumed_the_lines_are_those_of_an_unbroken_run(video: Path, tmp_path: Path) -> None:
    kill_then_resume(video, tmp_path, 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("seed", range(1, 8))
def test_killed_twenty_times(video: Path, tmp_path: Path, seed: int) -> None:
    kill_then_resume(video, tmp_path, seed)


def test_a_file_of_other_settings_is_not_gone_on_with(video: Path, tmp_path: Path) -> None:
    run(video, tmp_path)
    log = FrameLog(tmp_path / "clip.jsonl", {"threshold": 0.4})
    with pytest.raises(UserError, match="other settings"):
        detect_video(open_video(video), brightness, CATEGORIES, log, None, resume=True)


def test_frames_that_are_announced_and_missing_are_counted(video: Path, tmp_path: Path) -> None:
    data = video.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    result = run(tmp_path / "cut.avi", tmp_path)
    announced = open_video(tmp_path / "cut.avi").announced
    assert 0 < result.frames < FRAMES
    assert result.missing == announced - result.frames


def test_what_is_no_video_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="cannot be read as a video"):
        open_video(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="there is no such video"):
        open_video(tmp_path / "b.mp4")


def test_videos_are_told_by_their_names() -> None:
    assert is_video("a/B.MP4")
    assert is_video("camera:0")
    assert not is_video("a.jpg")
    assert not is_video("camera:front")
