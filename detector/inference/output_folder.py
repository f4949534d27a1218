"""The folder that predictions are written into: whole files, and none of an earlier prediction among them."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from detector.disk import half_written, hold_folder, write_atomically
from detector.errors import UserError
from detector.inference.picture_log import PictureLog
from detector.inference.showing import encode, fits

RESULTS = "detections.json"


class OutputFolder:
    """Annotated pictures and `detections.json`.

    At every moment, also of a kill, each file of it is whole, and all are of one prediction: a new one first deletes
    what an earlier one wrote, its results before its pictures, unless it goes on with that. Other files in the folder
    are left alone.

    Args:
        folder: where it is or will be.
        rank: of this process, where several write into the folder; process 0 makes, clears and finishes it.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.log = PictureLog(folder, rank)

    def make(self, held: ExitStack) -> None:
        """Make the folder where it is missing, and keep other predictions out of it until `held` is closed.

        Raises:
            UserError: it cannot be made, or another prediction is at work in it.
        """
        busy = (
            f"{self.folder}: another prediction is writing into this folder; wait for its end or stop it, or choose "
            "another with --output."
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            hold_folder(held, self.folder, busy)
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot make the output folder ({error.strerror}); choose another with --output."
            ) from None

    def clear(self, inputs: Iterable[Path] = ()) -> int:
        """Delete what an earlier prediction wrote; returns how many pictures that was.

        Args:
            inputs: pictures that are still to be read.

        Raises:
            UserError: one of `inputs` would be deleted, or a file cannot be.
        """
        listed = self._listed()
        earlier = [path for path in listed if path.is_file()]
        taken = {path.resolve() for path in earlier} & {path.resolve() for path in inputs}
        if taken:
            raise UserError(
                f"{min(taken)}: is both an input and a picture of an earlier prediction in the output folder, which "
                "would be deleted; choose another --output folder."
            )
        try:
            (self.folder / RESULTS).unlink(missing_ok=True)
            self._delete_half_written(listed)
            for path in listed:
                path.unlink(missing_ok=True)
                _remove_empty_folders(path.parent, self.folder)
            for path in reversed(self.log.files):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot delete the earlier prediction ({error.strerror}); choose another --output."
            ) from None
        return len(earlier)

    def go_on(self, made_with: Mapping[str, Any]) -> None:
        """Go on with an earlier prediction, whose files stay; begin one where there is none.

        Args:
            made_with: what detections depend on, in plain containers.

        Raises:
            UserError: the earlier one was made with something else, or does not say with what.
        """
        earlier = self.log.earlier()
        if earlier is None:
            if (self.folder / RESULTS).exists() or self.log.announced():
                raise UserError(
                    f"{self.folder}: does not say what its detections were made with; leave out --skip-done to redo "
                    "them, or choose another --output."
                )
            self.log.begin(made_with)
        elif others := differences(earlier, made_with):
            raise UserError(
                f"{self.folder}: its detections were made with {others}; leave out --skip-done to redo them, or choose "
                "another --output."
            )
        else:
            self.log.merge()
        try:
            self._delete_half_written(self._listed())
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror}); choose another --output.") from None

    def _delete_half_written(self, pictures: Iterable[Path]) -> None:
        for path in (self.folder / RESULTS, *self.log.files, *pictures):
            for torn in half_written(path):
                torn.unlink(missing_ok=True)

    def save_picture(self, path: Path, picture: np.ndarray) -> None:
        """Write an annotated picture.

        Args:
            path: inside the folder; its suffix, .png or .jpg, says the format. What JPEG cannot hold is no JPEG in the
                input either, whatever its name says, and becomes a PNG.
            picture: [H, W, 3] uint8 RGB.

        Raises:
            UserError: no room, no permission.
        """
        kind = "JPEG" if path.suffix.lower() != ".png" and fits(picture, "JPEG") else "PNG"
        self.log.announce(path.relative_to(self.folder).as_posix())
        write_atomically(path, encode(picture, kind))

    def save_results(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Write `detections.json`. Raises UserError where there is no room or no permission."""
        write_atomically(self.folder / RESULTS, json.dumps(list(results), indent=1).encode())

    def _listed(self) -> list[Path]:
        """Where an earlier prediction wrote annotated pictures or meant to, inside the folder; no folders."""
        root = self.folder.resolve()
        paths = [self.folder / name for name in self.log.announced()]
        return [path for path in paths if not path.is_dir() and path.parent.resolve().is_relative_to(root)]


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What two predictions were made with differently, in words; empty where there is nothing.

    Args:
        earlier, now: in plain containers, as JSON gives them back.
    """
    now = json.loads(json.dumps(now))
    keys = [key for key in dict.fromkeys((*earlier, *now)) if earlier.get(key) != now.get(key)]
    return ", ".join(_difference(key, earlier.get(key), now.get(key)) for key in keys)


def _difference(key: str, earlier: object, now: object) -> str:
    """What one setting was and is: its values too, where they are short."""
    plain = (bool, int, float, str, type(None))
    if isinstance(earlier, plain) and isinstance(now, plain):
        before, after = ("none" if value is None else str(value) for value in (earlier, now))
        return f"{key} {before} (now {after})"
    return f"other {key}"


def _remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove folders that hold nothing any more, from `folder` up to below `root`."""
    while folder != root and root in folder.parents:
        try:
            os.rmdir(folder)
        except OSError:  # it holds something else
            return
        folder = folder.parent
