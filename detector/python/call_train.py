"""Training called from Python: until its end, or step by step."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np

from detector.command import is_first_process
from detector.commands.train import check_before_start, choose_config, explain_lines
from detector.config import CONFIG_FILE, Config, load_config
from detector.errors import UserError
from detector.python.explanation import Explanation
from detector.python.training_run import Run, read_run
from detector.training.configure import Configured
from detector.training.engine import Outcome, train_until
from detector.training.process.signals import StopSignals, exit_code
from detector.training.report.logs import METRICS_FILE, read_metrics

StrPath = str | os.PathLike[str]
_POLL_SECONDS = 0.1


@overload
def train(
    data: StrPath | None = None,
    *,
    config: StrPath | None = None,
    weights: StrPath | None = None,
    epochs: float | None = None,
    output: StrPath | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    explain: Literal[False] = False,
    **settings: Any,
) -> Run: ...


@overload
def train(data: StrPath | None = None, *, explain: Literal[True], **settings: Any) -> Explanation: ...


def train(
    data: StrPath | None = None,
    *,
    config: StrPath | None = None,
    weights: StrPath | None = None,
    epochs: float | None = None,
    output: StrPath | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    explain: bool = False,
    **settings: Any,
) -> Run | Explanation:
    """Train a detector, as the command `faster-rcnn train` does. It may be called in any thread; one run at a time.

    In the main thread Ctrl-C saves the run and raises KeyboardInterrupt; `resume=True` then goes on. A notebook shows a
    bar in the place of the log's lines, and of the returned run its numbers and sample pictures.

    Args:
        data: a folder of annotated pictures, or its `data.yaml` or COCO file; None: what the config names, or without
            one the embedded pictures.
        config: a YAML file, or a recipe's name such as `r50c4_bccd`.
        weights: of a detector to start from: a file or a published name.
        epochs: passes over the training pictures.
        output: folder of the run; None: below `output/`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        resume, overwrite: go on with the run in `output`, or delete it first.
        explain: train nothing; return how the data are understood and each choice with its reason, an `Explanation`.
        settings: by short name (`batch=4`, `lr=0.01`, `imgsz=640`), or by name with two underscores in the place of
            each dot (`train__batch_size=4`); or `**{"train.batch_size": 4}`.

    Returns:
        The paths of what the run has left, and its metrics.

    Raises:
        UserError: the run cannot be started, or cannot go on; one sentence with the remedy.
    """
    configured, folder = _configure(data, config, weights, epochs, output, resume, device, settings)
    if explain:
        return Explanation(configured.config, str(folder), explain_lines(configured, folder))
    chosen = _say(configured)
    if in_notebook():
        return _train_with_bar(TrainSteps(chosen, folder, resume, overwrite, device, quiet=True))
    with StopSignals() as stop:
        outcome = train_until(stop, chosen, folder, resume, overwrite, device)
    return _result(outcome, folder)


def train_steps(
    data: StrPath | None = None,
    *,
    config: StrPath | None = None,
    weights: StrPath | None = None,
    epochs: float | None = None,
    output: StrPath | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> "TrainSteps":
    """Train in a thread of its own, and give what the run reports as it comes; the arguments are those of `train`.

        with detector.train_steps(data="cells", epochs=12) as steps:
            for row in steps:
                print(row["iteration"], row.get("loss"))
        print(steps.run.best)

    Raises:
        UserError: the run cannot be started; while iterating too.
    """
    configured, folder = _configure(data, config, weights, epochs, output, resume, device, settings)
    return TrainSteps(_say(configured), folder, resume, overwrite, device)


class TrainSteps(Iterator[dict[str, Any]]):
    """The rows of a run's `metrics.jsonl` as they are written: losses every `train.log_every` steps, and evaluations.

    Leaving it as a context manager, or `stop`, ends the run after its step and saves it; what the run raised is raised
    by the iteration. `output` is the run's folder.
    """

    def __init__(
        self, config: Config, output: Path, resume: bool, overwrite: bool, device: str, quiet: bool = False
    ) -> None:
        self._file = output / METRICS_FILE
        self.output = output
        self._seen = {_key(row) for row in self._rows()} if resume else set()
        self._stop = StopSignals()
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._arguments = (config, output, resume, overwrite, device, quiet)
        self._pending: deque[dict[str, Any]] = deque()
        self._looked_at = self._state()  # of an earlier run, which this one replaces or goes on with
        self._thread = threading.Thread(target=self._train, name="training", daemon=True)
        self._thread.start()

    def __next__(self) -> dict[str, Any]:
        while True:
            is_over = not self._thread.is_alive()
            self._look()
            if self._pending:
                return self._pending.popleft()
            if is_over:
                if self._error is not None:
                    raise self._error
                raise StopIteration
            self._thread.join(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask the run to save and end, and wait until it has; `resume=True` goes on with it."""
        self._stop.request(int(signal.SIGTERM))
        self._thread.join()

    @property
    def run(self) -> Run:
        """What the run has left, once it is at its end; waits for it.

        Raises:
            UserError: the run failed, or was stopped before its end.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._outcome is None or self._outcome.stopped_by:
            raise UserError(f"{self.output}: the run was stopped before its end; resume=True goes on with it.")
        return read_run(self.output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()

    def _train(self) -> None:
        try:
            self._outcome = train_until(self._stop, *self._arguments)
        except BaseException as error:
            self._error = error

    def _look(self) -> None:
        """Read the rows that have come since the last look."""
        state = self._state()
        if state is None or state == self._looked_at:
            return
        self._looked_at = state
        for row in self._rows():
            if _key(row) not in self._seen:
                self._seen.add(_key(row))
                self._pending.append(row)

    def _state(self) -> tuple[int, int] | None:
        """What changes with every row; None where there are none yet."""
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size

    def _rows(self) -> list[dict[str, Any]]:
        return read_metrics(self._file) if self._file.is_file() else []


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel; IPython is not imported for the question."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def _train_with_bar(steps: TrainSteps) -> Run:
    from tqdm.auto import tqdm

    with steps, tqdm(unit="iteration") as bar:
        for row in steps:
            if "evaluation" in row:
                ap = row["evaluation"].get("AP")
                bar.write(f"iteration {row['iteration']}: AP {'n/a' if ap is None else f'{ap:.4f}'}")
                continue
            if bar.total is None:  # what the run has worked out, from epochs say
                bar.total = load_config(steps.output / CONFIG_FILE).train.iterations
            bar.n = row["iteration"]
            bar.set_postfix(loss=row["loss"])
    return steps.run


def _configure(
    data: StrPath | None,
    config: StrPath | None,
    weights: StrPath | None,
    epochs: float | None,
    output: StrPath | None,
    resume: bool,
    device: str,
    settings: Mapping[str, Any],
) -> tuple[Configured, Path]:
    given = {"data": _plain(data), "epochs": epochs, "model.weights": _plain(weights)}
    values = {key: value for key, value in given.items() if value is not None}
    values |= {key.replace("__", "."): _plain(value) for key, value in settings.items()}
    folder = None if output is None else Path(output).expanduser()
    configured, chosen = choose_config(None if config is None else Path(config), folder, values, resume, device)
    check_before_start(configured.config, resume)
    return configured, chosen


def _say(configured: Configured) -> Config:
    """The settings, once what was understood is printed."""
    if is_first_process():
        for note in configured.notes:
            print(note, flush=True)
    return configured.config


def _result(outcome: Outcome, folder: Path) -> Run:
    """The finished run; a stopped one ends the program as its signal would have."""
    if outcome.stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    if outcome.stopped_by:
        raise SystemExit(exit_code(outcome.stopped_by))
    return read_run(folder)


def _plain(value: Any) -> Any:
    """A path as text, and a number of NumPy's as Python's, as settings have them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value


def _key(row: Mapping[str, Any]) -> tuple[Any, bool, Any]:
    """What tells two rows apart: a row that a resumed run writes again is another one."""
    return row.get("iteration"), "evaluation" in row, row.get("seconds")
