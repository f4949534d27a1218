"""Checking of data called from Python."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.commands import check_data as command
from detector.datasets.faults import Fault
from detector.errors import UserError
from detector.python.settings_words import arguments_of

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class DataCheck:
    """What was found in a set of annotated pictures. `str` of it is what the command prints.

    faults: each with its `kind` (name, meaning, remedy), `image`, `annotation` and `detail`; none for sound data.
    text: counts, sizes and faults, as lines.
    """

    faults: tuple[Fault, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def check_data(
    data: StrPath | None = None,
    *,
    annotations: StrPath | None = None,
    images: StrPath | None = None,
    data_format: str | None = None,
    against: StrPath | None = None,
    other_images: StrPath | None = None,
    open_pictures: bool = True,
    fix: StrPath | None = None,
    report: StrPath | None = None,
    sheet: StrPath | None = None,
    ignore: Sequence[str] = (),
    show: int = 20,
    config: StrPath | None = None,
    workers: int | None = None,
    weights: StrPath | None = None,
    most: int = 60,
    device: str = "auto",
) -> DataCheck:
    """Find every fault of annotated pictures, as the command `faster-rcnn check-data` does.

    Args:
        data: a folder of annotated pictures as `train` takes it; or `annotations` and `images`.
        data_format: `coco`, `voc` or `yolo`; None: by what is there.
        against, other_images: another split, to share no picture with this one.
        open_pictures: decode them; without, only what the annotations say is checked.
        fix: write a copy without the faults that need no decision here, as COCO JSON.
        report: write every fault as a line of this CSV file.
        sheet: write pictures of objects of each class into this folder.
        ignore: names of kinds of fault to leave out of account.
        show: faults of each kind in the text, 0: all.
        config: whose anchors to compare with the boxes.
        workers: threads that decode.
        weights: a model of the same classes: write where it contradicts the labels (missing, wrong and doubtful ones,
            the surest first) as a picture and a table of each split into `sheet`, or else `output/check_data`.
        most: such labels of a split.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, where the model runs.

    Raises:
        UserError: the data cannot be read at all.
    """
    if (data is None) == (annotations is None):
        raise UserError("give either data, a folder of annotated pictures, or annotations and images.")
    lines: list[str] = []
    faults = command.check(
        arguments_of(
            command.add_arguments,
            annotations=Path(f"data={os.fspath(data)}") if data is not None else _path(annotations),
            images=_path(images),
            format=data_format,
            no_images=not open_pictures,
            against=_path(against),
            other_images=_path(other_images),
            fix=_path(fix),
            report=_path(report),
            sheet=_path(sheet),
            show=show,
            ignore=list(ignore),
            config=_path(config),
            workers=workers,
            weights=None if weights is None else os.fspath(weights),
            most=most,
            device=device,
        ),
        lines.append,
    )
    return DataCheck(tuple(faults), "\n".join(lines))


def _path(value: StrPath | None) -> Path | None:
    return None if value is None else Path(value).expanduser()
