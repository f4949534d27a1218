"""The word `data=…` of a command line as settings, and what was understood as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detector.config import DataConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.contents import Format, count_ignored
from detector.datasets.layouts.layout import SPLITS, Layout
from detector.datasets.layouts.recognise import recognise
from detector.datasets.splits import describe_hold_out
from detector.errors import UserError

HOLD_OUT = 0.2  # of a set without a val split
_MOST_CLASSES = 20  # that the table names


def take_data_word(words: Sequence[str]) -> tuple[list[str], Layout | None]:
    """Words without `data=…`, and the layout of what it names; `data.format=…` among them says which to look for.

    Raises:
        UserError: it is there twice, or what it names is no set that is known.
    """
    given = [word.removeprefix("data=") for word in words if word.startswith("data=")]
    rest = [word for word in words if not word.startswith("data=")]
    if not given:
        return rest, None
    if len(given) > 1:
        raise UserError(f"data={given[0]} data={given[1]}: give one set; several must be put into one folder.")
    if not given[0]:
        raise UserError("data=: name a folder of annotated pictures, or its data.yaml or COCO file.")
    wanted = [word.partition("=")[2] for word in rest if word.startswith("data.format=")]
    return rest, recognise(given[0], _known_format(wanted[-1] if wanted else None))


def take_data_value(values: Mapping[str, Any]) -> tuple[dict[str, Any], Layout | None]:
    """Values by the names of settings without `data`, and the layout of what it names; see `take_data_word`."""
    rest = {key: value for key, value in values.items() if key != "data"}
    if values.get("data") is None:
        return rest, None
    return rest, recognise(values["data"], _known_format(rest.get("data.format")))


def _known_format(name: Any) -> Format | None:
    formats: dict[Any, Format] = {"coco": "coco", "voc": "voc", "yolo": "yolo"}
    return formats.get(name)


def layout_settings(layout: Layout, hold_out: float = 0.0) -> dict[str, Any]:
    """The settings that a layout stands for, by their dotted names: format and splits, None for those it lacks.

    Args:
        hold_out: the share of the training pictures that becomes the val split where there is none; 0: `HOLD_OUT`.
    """
    lacks_val = "val" not in layout.splits and "train" in layout.splits
    share = (hold_out or HOLD_OUT) if lacks_val else 0.0
    settings: dict[str, Any] = {"data.format": layout.format, "data.generate": None, "data.hold_out": share}
    for split in SPLITS:
        found = layout.splits.get(split)
        settings[f"data.{split}_annotations"] = None if found is None else str(found.annotations)
        settings[f"data.{split}_images"] = None if found is None else str(found.images)
    return settings


def with_layout(data: DataConfig, layout: Layout) -> DataConfig:
    """Settings of data with the format and the splits of a layout in the place of their own."""
    settings = layout_settings(layout, data.hold_out)
    return replace(data, **{key.removeprefix("data."): value for key, value in settings.items()})


def describe_layout(layout: Layout) -> list[str]:
    """What was recognised, before anything of it is opened: one line, and one for each thing that is not used."""
    return [f"data {layout.source}: {layout.kind}; splits {', '.join(layout.splits)}", *layout.notes]


def describe_splits(data: DataConfig, splits: dict[str, DetectionDataset]) -> str:
    """What was understood, as a table: the format, each split with its counts and places, and the classes.

    Args:
        data: the settings.
        splits: what was opened, by split; `test`, which nothing opens before it is scored, is listed without counts.
    """
    rows = [("split", "pictures", "empty", "boxes", "annotations", "pictures in")]
    for split in SPLITS:
        dataset = splits.get(split)
        if dataset is not None:
            counts = dataset.object_counts()
            numbers = (f"{len(dataset):,}", f"{int((counts == 0).sum()):,}", f"{int(counts.sum()):,}")
            rows.append((split, *numbers, str(dataset.annotation_path), dataset.image_root))
        elif split == "test" and data.test_annotations is not None:
            rows.append((split, "–", "–", "–", data.test_annotations, str(data.test_images)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [f"data as understood ({data.format})"]
    for row in rows:
        columns = [f"{row[column]:>{widths[column]}}" for column in (1, 2, 3)]
        lines.append("  " + "  ".join([f"{row[0]:<{widths[0]}}", *columns, f"{row[4]:<{widths[4]}}", row[5]]))
    for split, dataset in splits.items():
        if count := int(dataset.iscrowd.sum()):
            lines.append(f"  {split}: {count_ignored(count, data.format)}")
    if data.hold_out and data.val_annotations is None and "val" in splits:
        lines.append(f"  {describe_hold_out(data)}")
    if data.test_annotations is not None and "test" not in splits:
        lines.append("  the test split is kept aside: faster-rcnn evaluate --split test scores it")
    lines += _describe_classes(splits)
    return "\n".join(lines)


def _describe_classes(splits: dict[str, DetectionDataset]) -> list[str]:
    categories = next(iter(splits.values())).categories
    names = categories.names
    table = {split: _per_class(dataset, len(names)) for split, dataset in splits.items()}
    width = max(len(name) for name in names)
    lines = [f"  {len(names)} {'class' if len(names) == 1 else 'classes'}, boxes in {' + '.join(table)}:"]
    for place, name in list(enumerate(names))[:_MOST_CLASSES]:
        counts = " + ".join(f"{counts[place]:>7,}" for counts in table.values())
        lines.append(f"    {categories.id_of(place + 1):>4} {name:<{width}} {counts}")
    if len(names) > _MOST_CLASSES:
        lines.append(f"    … and {len(names) - _MOST_CLASSES} more")
    return lines


def _per_class(dataset: DetectionDataset, count: int) -> list[int]:
    labels = dataset.labels[~dataset.iscrowd]
    found: list[int] = np.bincount(labels, minlength=count + 1)[1 : count + 1].tolist()
    return found
