"""TensorBoard's file of a run, written by the thread that trains.

TensorBoard's own writer has a thread for it, which prints a traceback where the disk is full. A run writes little, and
wants to know at once what is lost.
"""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

VERSION = "brain.Event:2"  # of the format


class EventsFile:
    """A new file of events. Whatever is added is handed to the system before the call returns.

    Args:
        folder: that TensorBoard is pointed at; made where it is missing. It shows the events of all files in it as one
            run.
        first_step: steps from this one on that an interrupted run wrote are hidden.

    Raises:
        OSError: from every method but `close`: the file cannot be written. Nothing can be added from then on.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard knows its files by this beginning, and reads them in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}"
        number = 0
        while (path := folder / f"{name}.{number}").exists():
            number += 1
        self._file = open(path, "xb")  # noqa: SIM115 (open until `close`)
        self._records = RecordWriter(self._file)
        self._add(Event(file_version=VERSION))
        self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of the curves with these names."""
        for name, value in values.items():
            self._add_summary(step, summary.scalar(name, value))  # type: ignore[no-untyped-call]

    def precision_curve(self, step: int, name: str, recall: np.ndarray, precision: np.ndarray) -> None:
        """Add a curve of precision over recall, [T] each."""
        none = np.zeros(len(recall))  # TensorBoard asks for counts too, which its curve does not need
        counts = (none, none, none, none)
        curve = summary.pr_curve_raw(  # type: ignore[no-untyped-call]
            name, *counts, precision[::-1], recall[::-1], num_thresholds=len(recall)
        )
        self._add_summary(step, curve)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Add a picture, [H, W, 3] uint8 RGB."""
        content = summary.image(name, image, dataformats="HWC")  # type: ignore[no-untyped-call]
        self._add_summary(step, content)

    def sync(self) -> None:
        """Force all that was added onto the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.raw.close()  # not the buffer, which would try again to write what a full disk has refused

    def _add_summary(self, step: int, content: Summary) -> None:
        self._add(Event(step=step, summary=content))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        try:
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError:
            self.close()
            raise
