"""Detection in a video that is killed at random frames, again and again."""

import json
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detector.inference.video.annotated import AnnotatedVideo
from detector.inference.video.frame_log import FrameLog

# Before the frame's line is written, in the middle of it, before the frame is drawn, and when a piece gets its name.
PLACES = ("before", "inside", "behind", "piece")


def killed_at_frames(go_on: Callable[[], object], choose: random.Random, kills: int, apart: int, frames: int) -> int:
    """Let a process go on with a video and kill itself, `kills` times or until the video is done.

    Args:
        go_on: begins the video, or resumes it.
        choose: the places and frames.
        kills: how often at most.
        apart: each kill is less than so many frames further than the last.
        frames: of the video.

    Returns:
        How often it was killed.
    """
    reached = 0
    for done in range(kills):
        reached += choose.randrange(apart)
        child = os.fork()
        if child == 0:
            try:
                die_at(min(reached, frames - 1), choose.choice(PLACES))
                go_on()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return done
        assert os.WTERMSIG(status) == signal.SIGKILL
    return kills


def die_at(frame: int, place: str) -> None:
    """Have this process end by SIGKILL at a frame or at the next one that it comes to."""
    append, finish = FrameLog.append, AnnotatedVideo._finish_piece

    def append_or_die(log: FrameLog, number: int, seconds: float, detections: Sequence[Mapping[str, Any]]) -> None:
        if place == "piece" or number < frame:
            append(log, number, seconds, detections)
            return
        if place == "inside":
            log._file.write(json.dumps({"frame": number, "time": seconds}).encode()[:-4])
            log._file.flush()
        if place == "behind":
            append(log, number, seconds, detections)
        os.kill(os.getpid(), signal.SIGKILL)

    def finish_or_die(video: AnnotatedVideo) -> None:
        if place == "piece" and video.drawn > frame:
            os.kill(os.getpid(), signal.SIGKILL)
        finish(video)

    FrameLog.append = append_or_die  # type: ignore[method-assign]
    AnnotatedVideo._finish_piece = finish_or_die  # type: ignore[method-assign]
