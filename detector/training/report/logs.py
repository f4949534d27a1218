"""What a run reports: lines on the screen and in log.txt, numbers in metrics.jsonl and TensorBoard.

Nothing here may end a run: where the disk is full, one warning says that a log is lost, and training goes on.
"""

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np

from detector.disk import append_line, write_atomically
from detector.errors import UserError
from detector.printing import PrintableFormatter
from detector.training.report.events import EventsFile
from detector.training.report.trackers import TRACKED_RUNS, Trackers
from detector.training.state.progress import Progress

LOG_FILE, METRICS_FILE, EVENTS_FOLDER = "log.txt", "metrics.jsonl", "tensorboard"
LINE_FORMAT, TIME_FORMAT = "%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"


class RunLog:
    """Writes the log of one run; on other processes than the main one only warnings, and only to the screen.

    Args:
        output: the run's folder, which must exist.
        rank: number of this process; 0 is the main one.
        quiet: of the lines only warnings are shown on the screen; the file has all.

    To be left as a context manager, which gives the package's logger back.

    Raises:
        UserError: something else is where the log is to be written.
    """

    def __init__(self, output: Path, rank: int, quiet: bool = False) -> None:
        self.rank = rank
        self._output = output
        # The package's own logger, so that what other parts say (about weights, say) is in the run's log too.
        self._logger = logging.getLogger("detector")
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
        self._logger.propagate = False
        self._handlers: list[logging.Handler] = []
        screen = _ScreenHandler(sys.stdout if rank == 0 else sys.stderr)
        screen.setLevel(logging.WARNING if quiet else logging.INFO)
        self._add_handler(screen)
        self._events: EventsFile | None = None
        self._trackers: Trackers | None = None
        self._unwritable: set[Path] = set()
        if rank == 0:
            try:
                self._add_handler(_FileHandler(output / LOG_FILE, encoding="utf-8"))
            except OSError as error:
                self._give_back()
                raise _in_the_way(output / LOG_FILE, "the log", error) from None

    def begin_numbers(
        self,
        progress: Progress,
        tensorboard: bool,
        trackers: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Go on with metrics.jsonl and, where wanted, TensorBoard and other services from here.

        trackers: see `Trackers`, whose `settings` are those of the run. A run from its beginning is a new one there.

        Numbers of later iterations, written before an interruption, are removed, so that every iteration is there once.

        Raises:
            UserError: something else is where they are to be written, or a service's package is not installed.
        """
        if self.rank != 0:
            return
        if trackers:
            if progress.iteration == 0:
                with suppress(OSError):
                    (self._output / TRACKED_RUNS).unlink(missing_ok=True)
            self._trackers = Trackers(trackers, self._output, settings or {}, self.warning)
        forget_metrics_after(self._output / METRICS_FILE, progress)
        if tensorboard:
            folder = self._output / EVENTS_FOLDER
            try:
                self._events = EventsFile(folder, first_step=progress.iteration + 1)
            except OSError as error:
                raise _in_the_way(folder, "TensorBoard's events", error) from None

    def info(self, text: str) -> None:
        """Log something worth knowing."""
        self._logger.info(text)

    def warning(self, text: str) -> None:
        """Log something that went wrong without stopping the run."""
        prefix = f"warning (process {self.rank}): " if self.rank else "warning: "
        self._logger.warning(prefix + text)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl; NaN and infinities become null."""
        self.append(self._output / METRICS_FILE, values)

    def append(self, path: Path, values: Mapping[str, Any]) -> None:
        """Append a line to a JSON-lines file; that it cannot be written is said once, until it can be again."""
        if self.rank != 0:
            return
        line = json.dumps(_finite(values), ensure_ascii=False, allow_nan=False)
        try:
            append_line(path, line.encode())
            self._unwritable.discard(path)
        except OSError as error:
            if path not in self._unwritable:
                self._unwritable.add(path)
                self.warning(f"{path}: cannot write the numbers of this run ({error.strerror or error}).")

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add points to TensorBoard's curves and the trackers', by name such as `loss/total`."""
        self._write_events(lambda events: events.scalars(iteration, values))
        if self._trackers is not None:
            self._trackers.log(iteration, values)

    def precision_curve(self, iteration: int, name: str, recall: np.ndarray, precision: np.ndarray) -> None:
        """Add a curve of precision over recall, [T] each, to TensorBoard; it shows them at falling thresholds."""
        self._write_events(lambda events: events.precision_curve(iteration, name, recall, precision))

    def picture(self, iteration: int, name: str, image: np.ndarray) -> None:
        """Add a picture, [H, W, 3] uint8 RGB, to TensorBoard."""
        self._write_events(lambda events: events.picture(iteration, name, image))

    def flush(self) -> None:
        """Force TensorBoard's events onto the disk, as before a checkpoint."""
        self._write_events(lambda events: events.sync())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write_events(lambda events: events.close())
        if self._trackers is not None:
            self._trackers.close()
        self._give_back()

    def _give_back(self) -> None:
        """Leave the package's logger as it was."""
        for handler in self._handlers:
            self._logger.removeHandler(handler)
            handler.close()
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)

    def _add_handler(self, handler: logging.Handler) -> None:
        handler.setFormatter(PrintableFormatter(LINE_FORMAT, TIME_FORMAT))
        self._logger.addHandler(handler)
        self._handlers.append(handler)

    def _write_events(self, write: Callable[[EventsFile], None]) -> None:
        if self._events:
            try:
                write(self._events)
            except OSError as error:
                self._events = None
                self.warning(f"TensorBoard events cannot be written any more ({error.strerror or error}).")


def _in_the_way(path: Path, what: str, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be opened for {what} ({error.strerror or error}); move it away, or choose another folder with "
        "--output."
    )


class _ScreenHandler(logging.StreamHandler[TextIO]):
    """A screen that may go away, like that of a closed connection; log.txt has everything."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the base class's name)
        pass


class _FileHandler(logging.FileHandler):
    """A file that may stop being writable, which the screen then reports once."""

    _lost = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 (the base class's names)
        if not self._lost:
            self._lost = True
            with suppress(OSError):  # standard error may be a file on the same full disk
                print(f"warning: {self.baseFilename}: cannot write the log ({sys.exc_info()[1]}).", file=sys.stderr)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl. A last line that a killed run left unfinished is left out."""
    entries = []
    # Not splitlines(): names may hold what Unicode counts as the end of a line, U+2028 for one.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def forget_metrics_after(path: Path, progress: Progress) -> None:
    """Rewrite a metrics.jsonl without the lines of later steps and evaluations, and without an unfinished line."""
    if path.is_file():
        kept = [entry for entry in read_metrics(path) if _is_of_before(entry, progress)]
        write_atomically(path, "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in kept).encode())


def _is_of_before(entry: Mapping[str, Any], progress: Progress) -> bool:
    last = progress.evaluated_iteration if "evaluation" in entry else progress.iteration
    iteration = entry.get("iteration")
    return isinstance(iteration, int) and iteration <= last


def memory_in_use() -> int:
    """Bytes that this process holds in memory now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
