"""What was recognised in a folder, and how it is said when there is more than one way to read it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.datasets.formats.contents import Format
from detector.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Where one split lies: `annotations` and `images`, as `detector.datasets.formats.open_dataset` takes them."""

    annotations: Path
    images: Path


@dataclass(frozen=True)
class Layout:
    """A folder of annotated pictures, understood.

    source: what was given. kind: for people, such as `Roboflow export`. splits: by their names of `SPLITS`; one without
    names is `train`. notes: what lies there and is not used, or is joined, as sentences.
    """

    source: Path
    kind: str
    format: Format
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One way to read a folder.

    kind, format: of the layout that it would be. choice: the words of the command line that choose it. open: finds the
    files of its splits; raises UserError where some are not there, or could be several.
    """

    kind: str
    format: Format
    choice: str
    open: Callable[[], Layout]


def ambiguous(source: Path, what: str, choices: Sequence[str]) -> UserError:
    """The refusal of what can be read in several ways; each choice is what to write instead."""
    return UserError(f"{source}: {what}. Choose one: {'; or '.join(choices)}.")
