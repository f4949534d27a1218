"""The folder that predictions are written into: whole files, and none of an earlier prediction among them."""

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector.disk import half_written, write_atomically
from detector.errors import UserError

RESULTS = "detections.json"
LIST = ".pictures"  # names of the annotated pictures, a JSON text a line, so that the next prediction can delete them


class OutputFolder:
    """Annotated pictures and `detections.json`.

    At every moment, also of a kill, each file of it is whole, and all are of one prediction: a new one first deletes
    what an earlier one wrote, its results before its pictures. Other files in the folder are left alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """Make the folder where it is missing. Raises UserError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
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
            for path in (self.folder / RESULTS, *listed):
                for torn in half_written(path):
                    torn.unlink(missing_ok=True)
            for path in listed:
                path.unlink(missing_ok=True)
                _remove_empty_folders(path.parent, self.folder)
            (self.folder / LIST).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot delete the earlier prediction ({error.strerror}); choose another --output."
            ) from None
        return len(earlier)

    def save_picture(self, path: Path, picture: np.ndarray) -> None:
        """Write an annotated picture.

        Args:
            path: inside the folder; its suffix, .png or .jpg, says the format.
            picture: [H, W, 3] uint8 RGB.

        Raises:
            UserError: no room, no permission.
        """
        data = io.BytesIO()
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(picture).save(data, kind, quality=92)
        try:
            with open(self.folder / LIST, "a", encoding="utf-8") as file:
                file.write(json.dumps(path.relative_to(self.folder).as_posix()) + "\n")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror}); choose another --output.") from None
        write_atomically(path, data.getvalue())

    def save_results(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Write `detections.json`. Raises UserError where there is no room or no permission."""
        write_atomically(self.folder / RESULTS, json.dumps(list(results), indent=1).encode())

    def _listed(self) -> list[Path]:
        """Where an earlier prediction wrote annotated pictures or meant to, inside the folder; no folders."""
        try:
            lines = (self.folder / LIST).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return []
        root = self.folder.resolve()
        paths = [self.folder / name for line in lines if (name := _read_name(line)) is not None]
        return [path for path in paths if not path.is_dir() and path.parent.resolve().is_relative_to(root)]


def _read_name(line: str) -> str | None:
    """The name in a line of the list; None for a line that a kill cut short."""
    try:
        name = json.loads(line)
    except ValueError:
        return None
    return name if isinstance(name, str) and "\0" not in name else None


def _remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove folders that hold nothing any more, from `folder` up to below `root`."""
    while folder != root and root in folder.parents:
        try:
            os.rmdir(folder)
        except OSError:  # it holds something else
            return
        folder = folder.parent
