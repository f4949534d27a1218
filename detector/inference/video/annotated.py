"""An annotated video that is drawn piece by piece, as the frames come, and joined when all are drawn.

Each piece is a small video of its own that gets its name when it is whole, so a kill loses at most the one that was
open, and what is lost is drawn again from the lines and the video. A camera's frames come only once: where it is
stopped, what was drawn until then is joined.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch

from detector.categories import CategoryMap
from detector.disk import put_in_place, sync_file
from detector.drawing.annotate import draw_detections
from detector.errors import UserError
from detector.inference.video.frames import open_video
from detector.inference.video.render import Writer, join, make_writer

PIECE = 250  # frames


class Piece(NamedTuple):
    """A whole part of an annotated video: its file, and which of the drawn frames it holds, from `first` to `end`."""

    path: Path
    first: int
    end: int


class AnnotatedVideo:
    """Writes an annotated video; a context, at the end of which the video has its name.

    Args:
        path: an .mp4.
        rate: frames a second.
        categories: of the detections.
        keep_broken: join what is drawn where the context ends by an exception, too.
        piece: frames of a piece.
    """

    def __init__(
        self, path: Path, rate: float, categories: CategoryMap, keep_broken: bool = False, piece: int = PIECE
    ) -> None:
        self.path = path
        self.rate = rate
        self.categories = categories
        self.keep_broken = keep_broken
        self.piece = piece
        self.pieces: list[Piece] = []
        self.writer: Writer | None = None
        self.drawn = 0

    @property
    def folder(self) -> Path:
        """Where the pieces are until they are joined."""
        return self.path.with_name(f".{self.path.stem}.pieces")

    @property
    def partial(self) -> Path:
        """The piece that is being drawn."""
        return self.folder / "partial.mp4"

    def start(self, frames: int) -> int:
        """Go on with what an earlier run has drawn.

        Args:
            frames: of how many frames the detections are known; pieces of others are deleted. 0 begins anew.

        Returns:
            How many frames are drawn already.

        Raises:
            UserError: something cannot be deleted or written.
        """
        try:
            self.pieces = self._earlier(frames)
            kept = {piece.path for piece in self.pieces}
            for path in [self.path, *self.folder.glob("*")]:
                if path not in kept:
                    path.unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); choose another --output.") from None
        self.drawn = self.pieces[-1].end if self.pieces else 0
        return self.drawn

    def draw(self, image: np.ndarray, detections: Sequence[Mapping[str, Any]]) -> None:
        """Append a frame.

        Args:
            image: [H, W, 3] uint8 RGB.
            detections: dicts with category_id, bbox [x, y, width, height] in its pixels, and score.

        Raises:
            UserError: there is no room.
        """
        if self.writer is None:
            self.writer = make_writer(self.partial, self.rate, (image.shape[0], image.shape[1]))
        boxes = torch.tensor([one["bbox"] for one in detections], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([self.categories.label_of(one["category_id"]) for one in detections], dtype=torch.int64)
        scores = torch.tensor([one["score"] for one in detections])
        picture = draw_detections(image, boxes, labels, scores, self.categories.names)
        try:
            self.writer.write(picture)
        except OSError as error:
            raise self._unwritten(error) from None
        self.drawn += 1
        if self.drawn - self._end == self.piece:
            self._finish_piece()

    def __enter__(self) -> "AnnotatedVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.keep_broken:
            self._finish_piece()
            self._join()
        elif self.writer is not None:
            with suppress(OSError):  # the piece is lost anyway
                self.writer.close()

    @property
    def _end(self) -> int:
        """How many frames whole pieces hold."""
        return self.pieces[-1].end if self.pieces else 0

    def _finish_piece(self) -> None:
        if self.writer is None:
            return
        try:
            self.writer.close()
            self.writer = None
            if _count(self.partial) != self.drawn - self._end:  # OpenCV says nothing of a full disk
                raise OSError("it lacks frames")
            path = self.folder / f"{self._end:08}-{self.drawn:08}.mp4"
            sync_file(self.partial)
            put_in_place(self.partial, path)
        except OSError as error:
            raise self._unwritten(error) from None
        self.pieces.append(Piece(path, self._end, self.drawn))

    def _join(self) -> None:
        """Give the video its name; the pieces are deleted after that."""
        paths = [piece.path for piece in self.pieces]
        try:
            if len(paths) > 1:
                join(paths, self.partial, self.rate)
                if _count(self.partial) != self._end:
                    raise OSError("it lacks frames")
                sync_file(self.partial)
                paths = [self.partial]
            if paths not in ([], [self.path]):  # no frames; nothing new
                put_in_place(paths[0], self.path)
            shutil.rmtree(self.folder)
        except OSError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot be written ({error.strerror or error}); make room and --resume.")

    def _earlier(self, frames: int) -> list[Piece]:
        """The pieces of an earlier run that follow each other from frame 0 on; of a finished one, the video itself."""
        named = [(path, re.fullmatch(r"(\d{8})-(\d{8})", path.stem)) for path in self.folder.glob("*.mp4")]
        pieces = [Piece(path, int(name[1]), int(name[2])) for path, name in named if name is not None]
        if frames and self.path.is_file():
            pieces.append(Piece(self.path, 0, _count(self.path)))
        chain: list[Piece] = []
        end = 0
        for piece in sorted(pieces, key=lambda piece: (piece.first, -piece.end)):
            if piece.first == end < piece.end <= frames:
                chain.append(piece)
                end = piece.end
        return chain


class NoVideo:
    """In the place of an `AnnotatedVideo` where none is wanted: takes the same calls, and does nothing."""

    def start(self, frames: int) -> int:
        """Every frame whose detections are known counts as drawn."""
        return frames

    def draw(self, image: np.ndarray, detections: Sequence[Mapping[str, Any]]) -> None:
        """Nothing."""

    def __enter__(self) -> "NoVideo":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def _count(path: Path) -> int:
    """The frames of a video; 0 where it cannot be read."""
    try:
        return open_video(path).announced
    except UserError:
        return 0
