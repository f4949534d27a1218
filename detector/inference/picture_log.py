"""What has been detected in pictures so far, on disk: a line of JSON for each batch, written as it comes.

The file lies hidden in the output folder. Its first line says what the predictions were made with; then there is a line
for each annotated picture, its name, before it is written, so that it can be deleted; and a line for each batch, which
is the whole truth about its pictures. Of several processes each has a file of its own until they are merged.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.datasets.pictures.made_here import PREDICTION_LOG
from detector.disk import append_line, write_atomically
from detector.errors import UserError

LIST = PREDICTION_LOG


@dataclass(frozen=True)
class Entry:
    """What came of one picture.

    output: its annotated copy, relative to the output folder, with forward slashes; one picture has it to itself.
    name: of the picture, in results. size, modified: of its file, bytes and nanoseconds; by these a changed one is
    told. detections: as results have them, without image_id; None where it could not be read, and problem says why.
    """

    output: str
    name: str
    size: int
    modified: int
    detections: list[dict[str, Any]] | None = None
    problem: str = ""

    @classmethod
    def of(cls, path: Path, output: str, name: str) -> "Entry":
        """The entry of a picture that nothing is known of yet; a file that is gone has the size −1."""
        try:
            status = path.stat()
        except OSError:
            return cls(output, name, -1, 0)
        return cls(output, name, status.st_size, status.st_mtime_ns)

    def is_of(self, other: "Entry") -> bool:
        """Whether both are of the same picture, unchanged."""
        return (self.output, self.name, self.size, self.modified) == (
            other.output,
            other.name,
            other.size,
            other.modified,
        )


class PictureLog:
    """The lines of one process.

    Args:
        folder: the output folder, which exists.
        rank: of this process; process 0 begins, goes on with and merges the files of all.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.path = folder / (f"{LIST}.{rank}" if rank else LIST)

    @property
    def files(self) -> list[Path]:
        """The files of all processes that there are, that of process 0 first."""
        others = [path for path in self.folder.glob(f"{LIST}.*") if path.suffix[1:].isdecimal()]
        own = self.folder / LIST
        return [own, *sorted(others)] if own.is_file() else sorted(others)

    def begin(self, made_with: Mapping[str, Any]) -> None:
        """Write the first line of a new file. Raises UserError where there is no room or no permission."""
        write_atomically(self.folder / LIST, _line({"made_with": made_with}))

    def earlier(self) -> dict[str, Any] | None:
        """What the earlier predictions were made with; None where nothing says so."""
        first = next(self._values(), None)
        settings = first.get("made_with") if isinstance(first, dict) else None
        return settings if isinstance(settings, dict) else None

    def merge(self) -> None:
        """Make one file of those of all processes, without torn lines. Raises UserError as `begin`."""
        files = self.files
        write_atomically(self.folder / LIST, b"".join(_line(value) for value in self._values()))
        try:
            for path in files:
                if path != self.folder / LIST:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror}); choose another --output.") from None

    def append(self, entries: Sequence[Entry]) -> None:
        """Write the line of a batch. Raises UserError where there is no room."""
        self._write({"pictures": [asdict(entry) for entry in entries]})

    def announce(self, output: str) -> None:
        """Write the line that an annotated picture may be there from now on. Raises UserError as `append`."""
        self._write(output)

    def announced(self) -> list[str]:
        """The names of all annotated pictures that may be there, relative to the folder."""
        return [value for value in self._values() if isinstance(value, str) and "\0" not in value]

    def entries(self) -> dict[str, Entry]:
        """By its output, what came of each picture; a batch of which an annotated picture is missing does not count.

        Batches are whole or not there, as a picture's detections can depend, in their last bits, on those of its batch.
        """
        entries: dict[str, Entry] = {}
        for value in self._values():
            batch = _batch(value)
            if all(one.detections is None or (self.folder / one.output).is_file() for one in batch):
                entries |= {one.output: one for one in batch}
        return entries

    def _values(self) -> Iterator[Any]:
        """What the whole lines of all files say."""
        for path in self.files:
            try:
                data = path.read_bytes()
            except OSError:
                continue
            for line in data.split(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:  # torn by a kill
                    continue

    def _write(self, value: object) -> None:
        try:
            append_line(self.path, json.dumps(value).encode())
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror}); make room, or choose another --output."
            ) from None


def _batch(value: object) -> list[Entry]:
    """The entries of a line; none where it says something else."""
    rows = value.get("pictures") if isinstance(value, dict) else None
    try:
        return [Entry(**row) for row in rows or ()]
    except TypeError:  # of another version
        return []


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
