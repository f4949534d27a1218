"""Videos: every frame has its line; a kill at any moment and a resume leave what an unbroken run leaves."""

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from killed_videos import killed_at_frames

from detector.categories import Category, CategoryMap
from detector.errors import UserError
from detector.inference.detections import Detections
from detector.inference.video import annotated, render
from detector.inference.video.annotated import AnnotatedVideo
from detector.inference.video.detect_video import VideoResult, detect_video
from detector.inference.video.frame_log import FrameLog
from detector.inference.video.frames import is_video, open_video, read_frames

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "犬")))
FRAMES, SIZE = 60, (48, 64)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames of growing brightness with a white square that moves; bars at the bottom tell their number."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, SIZE[::-1])
    for number in range(FRAMES):
        image = np.full((*SIZE, 3), 2 * number, np.uint8)
        image[10:20, number % 50 : number % 50 + 10] = 255
        for bit in range(6):
            image[32:, 10 * bit : 10 * bit + 10] = 255 * (number >> bit & 1)
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
    drawn: bool = True,
) -> VideoResult:
    log = FrameLog(folder / "clip.jsonl", {"threshold": 0.5}, every, batch_size)
    path = folder / "clip.mp4" if drawn else None
    return detect_video(open_video(video), brightness, CATEGORIES, log, path, resume, piece=7)


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
    assert not list(tmp_path.glob(".*pieces*"))


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
        assert result.objects == result.frames


def number_in(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(6) if image[36:44, 10 * bit + 2 : 10 * bit + 8].mean() > 128)


def assert_drawn_in_order(path: Path) -> None:
    """Every frame is there, and nothing else of the drawing."""
    assert [number_in(frame.image) for frame in read_frames(open_video(path))] == list(range(FRAMES))
    assert not list(path.parent.glob(".*pieces*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_killed_and_resumed_the_lines_are_those_of_an_unbroken_run(video: Path, tmp_path: Path, seed: int) -> None:
    run(video, tmp_path / "whole", drawn=False)
    choose = random.Random(seed)
    kills = killed_at_frames(lambda: run(video, tmp_path, resume=True), choose, 20 if seed else 6, 20, FRAMES)
    assert kills >= 5
    run(video, tmp_path, resume=True)
    assert (tmp_path / "clip.jsonl").read_bytes() == (tmp_path / "whole/clip.jsonl").read_bytes()
    assert_drawn_in_order(tmp_path / "clip.mp4")


@pytest.mark.parametrize("pyav", [True, False])
def test_pieces_are_joined_and_a_broken_joining_is_gone_on_with(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyav: bool
) -> None:
    if pyav and not render.has_pyav():
        pytest.skip("PyAV is not installed")
    monkeypatch.setattr(render, "has_pyav", lambda: pyav)
    with monkeypatch.context() as broken:
        broken.setattr(annotated, "join", lambda *_: sys.exit(143))
        with pytest.raises(SystemExit):
            run(video, tmp_path)
    pieces = sorted(path.name for path in (tmp_path / ".clip.pieces").iterdir())
    assert pieces == [f"{first:08}-{min(FRAMES, first + 7):08}.mp4" for first in range(0, FRAMES, 7)]
    assert not (tmp_path / "clip.mp4").exists()
    monkeypatch.setattr(AnnotatedVideo, "draw", lambda *_: pytest.fail("all are drawn"))
    run(video, tmp_path, resume=True)
    assert_drawn_in_order(tmp_path / "clip.mp4")
    drawn = open_video(tmp_path / "clip.mp4")
    assert (drawn.announced, drawn.rate) == (FRAMES, 20.0)
    # Once more: nothing is to be done.
    before = (tmp_path / "clip.mp4").stat()
    run(video, tmp_path, resume=True)
    after = (tmp_path / "clip.mp4").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_pieces_of_two_kinds_are_joined(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not render.has_pyav():
        pytest.skip("PyAV is not installed")
    with monkeypatch.context() as broken:
        broken.setattr(annotated, "join", lambda *_: sys.exit(143))
        with pytest.raises(SystemExit):
            run(video, tmp_path)
    (tmp_path / ".clip.pieces/00000056-00000060.mp4").unlink()
    monkeypatch.setattr(annotated, "make_writer", render.MPEG4Writer)
    run(video, tmp_path, resume=True)
    assert_drawn_in_order(tmp_path / "clip.mp4")


def test_a_new_run_leaves_nothing_of_an_earlier_one(video: Path, tmp_path: Path) -> None:
    run(video, tmp_path, every=20)
    (tmp_path / ".clip.pieces").mkdir()
    (tmp_path / ".clip.pieces/00000000-00000007.mp4").write_bytes(b"of the earlier run")
    run(video, tmp_path)
    assert_drawn_in_order(tmp_path / "clip.mp4")


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
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UserError, match="cannot be read as a video, since it is empty; replace the file"):
        open_video(tmp_path / "empty.mp4")
    with pytest.raises(UserError, match="there is no such video"):
        open_video(tmp_path / "b.mp4")


def test_opencv_says_nothing_of_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"camera:73: cannot be read as a video; check that it is connected"):
        open_video("camera:73")
    assert capfd.readouterr() == ("", "")


def test_videos_are_told_by_their_names() -> None:
    assert is_video("a/B.MP4")
    assert is_video("camera:0")
    assert not is_video("a.jpg")
    assert not is_video("camera:front")
