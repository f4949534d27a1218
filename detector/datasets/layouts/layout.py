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

    source: what was given. kind: for people, such as `Roboflow export`. splits: by their names of `SPLITS`, one at
    least; one without names is `train`. notes: what lies there and is not used, or is joined, as sentences.
    lost_train: the refusal of a train split that is named and cannot be used, where another one can. name_train: what
    to do where none is named, a sentence.
    """

    source: Path
    kind: str
    format: Format
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    lost_train: str = ""
    name_train: str = "Give the folder of the whole set."

    def require_train(self) -> None:
        """Raise UserError, with the remedy, where there is no train split."""
        if self.lost_train:
            raise UserError(self.lost_train)
        if "train" not in self.splits:
            only = " and ".join(self.splits)
            raise UserError(
                f"{self.source}: has only the {only} split{'s' if len(self.splits) > 1 else ''}, so there is nothing "
                f"to train on. {self.name_train}"
            )


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
