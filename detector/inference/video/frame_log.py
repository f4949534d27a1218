"""The detections of a video on disk: a line of JSON for every frame, written as it comes, continued after a kill."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from detector.disk import write_atomically
from detector.errors import UserError


class FrameLog:
    """A file of lines `{"frame": …, "time": …, "detections": […]}`, frame by frame; a context that opens and closes it.

    Each line is handed to the system at once, so a kill tears the last line at most.

    Args:
        path: of the file.
        settings: what its lines depend on, in plain containers. They are kept in a hidden file beside it, and only a
            run with the same settings continues the file.
        every: only every `every`-th frame of the video has a line.
        batch_size: frames that go through the network together. A file is continued where a batch begins, so that its
            lines are those of a run without an interruption.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], every: int = 1, batch_size: int = 1) -> None:
        self.path = path
        self.settings = json.dumps(dict(settings), sort_keys=True, ensure_ascii=False)
        self.every = every
        self.batch_size = batch_size
        self.lines = 0

    @property
    def next_frame(self) -> int:
        """The number of the frame whose line comes next."""
        return self.lines * self.every

    def start(self, resume: bool) -> None:
        """Begin a new file, or go on with an earlier one; a torn line at its end is dropped.

        Raises:
            UserError: the earlier file is of other settings or holds something else; or it cannot be written.
        """
        beside = self.path.with_name(f".{self.path.name}.settings")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if resume and self.path.exists():
                if not beside.is_file() or beside.read_text(encoding="utf-8") != self.settings:
                    raise UserError(
                        f"{self.path}: is of other settings, model or video; leave out --resume to redo it."
                    )
                self._keep_whole_batches()
                return
            self.path.write_bytes(b"")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another --output.") from None
        write_atomically(beside, self.settings.encode())
        self.lines = 0

    def append(self, frame: int, seconds: float, detections: Sequence[Mapping[str, Any]]) -> None:
        """Write one line. Raises UserError where there is no room."""
        assert frame == self.next_frame, (frame, self.next_frame)
        line = json.dumps(
            {"frame": frame, "time": round(seconds, 6), "detections": list(detections)}, ensure_ascii=False
        )
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); make room and --resume.") from None
        self.lines += 1

    def __enter__(self) -> "FrameLog":
        self._file = open(self.path, "ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _keep_whole_batches(self) -> None:
        """Cut the file behind its last whole batch of lines. Raises UserError for lines that are not its frames'."""
        whole, at_batch, count = 0, 0, 0
        for line in read_lines(self.path):
            if line.get("frame") != count * self.every or not isinstance(line.get("detections"), list):
                raise UserError(
                    f"{self.path}: line {count + 1} is not of frame {count * self.every}; leave out --resume."
                )
            count += 1
            whole += line.pop("bytes")
            if count % self.batch_size == 0:
                at_batch = whole
        with open(self.path, "r+b") as file:
            file.truncate(at_batch)
        self.lines = count - count % self.batch_size


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file, each with its length in `bytes`, up to the first that a kill left torn."""
    with open(path, "rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(entry, dict):
                return
            yield entry | {"bytes": len(line)}
