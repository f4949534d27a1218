"""What the word `data=…` means: a folder or file of annotated pictures as a layout, or the reason why it is none."""

from dataclasses import replace
from pathlib import Path

from detector.datasets.formats.contents import Format
from detector.datasets.formats.other_formats import is_archive, refuse_other
from detector.datasets.formats.picture_list import is_picture_list
from detector.datasets.formats.voc import one_file
from detector.datasets.layouts.coco_files import is_coco_file
from detector.datasets.layouts.coco_layouts import coco_candidates, coco_file_layout
from detector.datasets.layouts.layout import Candidate, Layout, ambiguous
from detector.datasets.layouts.names import files_of, has_pictures, split_of, subfolders, unused_folders
from detector.datasets.layouts.others import refuse_others
from detector.datasets.layouts.voc_layouts import voc_candidates, voc_list_layout
from detector.datasets.layouts.yolo_layouts import yolo_candidates
from detector.datasets.layouts.yolo_lists import darknet_layout, list_split
from detector.datasets.layouts.yolo_yaml import yaml_layout
from detector.errors import UserError

_DEPTH = 2  # folders around a folder that is a set: what an archive was unpacked into
_MOST_FOLDERS = 50
_NOT_TRAINED_ON = ("val", "valid", "validation", "test", "testing")


def recognise(source: str | Path, data_format: Format | None = None) -> Layout:
    """The layout of a folder of annotated pictures, or of the set that one of its files stands for.

    Args:
        source: a folder; a YOLO set's YAML or `.data` file; a COCO file; a list of pictures or names.
        data_format: only this format is looked for, where a folder holds several.

    Raises:
        UserError: there is nothing, nothing that is known, or it can be read in several ways, which are named.
    """
    path = Path(source).expanduser().absolute()
    if not path.exists():
        if "://" in str(source):
            raise UserError(f"data={source}: is an address; fetch and unpack it, and give the folder.")
        raise UserError(f"data={source}: no such file or folder. Check the path.")
    if path.is_file():
        return _of_file(path)
    candidates = _candidates(path, path, data_format, _DEPTH)
    if not candidates:
        raise UserError(_nothing(path, data_format))
    if len(candidates) > 1:
        kinds = ", ".join(dict.fromkeys(candidate.kind for candidate in candidates))
        what = f"can be read in {len(candidates)} ways ({kinds})"
        raise ambiguous(path, what, [candidate.choice for candidate in candidates])
    layout = _of_its_name(candidates[0].open(), path)
    notes = tuple(
        f"{folder}: has pictures and is not used: it has no annotations, or its name is of no split that is known."
        for folder in unused_folders([place.images for place in layout.splits.values()])
        if folder.is_relative_to(path)
    )
    return replace(layout, notes=layout.notes + notes)


def _of_its_name(layout: Layout, folder: Path) -> Layout:
    """A folder without splits that is called `valid` or `test` is that split, as a COCO file in it would be."""
    if folder.name.lower() not in _NOT_TRAINED_ON:
        return layout
    split = split_of(folder.name)
    if split is not None and set(layout.splits) == {"train"}:
        layout = replace(layout, splits={split: layout.splits["train"]})
    if "train" in layout.splits:
        return layout
    return replace(
        layout,
        name_train=f"Give the folder of the whole set; if it is this one, call it something else than {folder.name}.",
    )


def _of_file(path: Path) -> Layout:
    name = path.name.lower()
    if name.endswith((".yaml", ".yml")):
        return yaml_layout(path, path)
    if name.endswith(".data"):
        return darknet_layout(path, path)
    if is_coco_file(path):
        return coco_file_layout(path)
    if is_archive(path):
        raise UserError(refuse_other(path) or "")
    if is_picture_list(path):
        split = split_of(path.stem) or "train"
        return Layout(path, "YOLO", "yolo", {split: list_split(path, path)})
    other = refuse_other(path)
    if name.endswith(".txt") and other is None:
        return voc_list_layout(path)
    if name.endswith(".xml") and other is None:
        other = one_file(path)
    raise UserError(
        other
        or f"{path}: is no data set's YAML file, no COCO file and no list; give the folder of the set, or one of these."
    )


def _candidates(folder: Path, source: Path, data_format: Format | None, depth: int) -> list[Candidate]:
    found = [*coco_candidates(folder, source), *voc_candidates(folder, source), *yolo_candidates(folder, source)]
    found = [candidate for candidate in found if data_format in (None, candidate.format)]
    if found or depth == 0:
        return found
    inside = [
        (inner, candidates)
        for inner in subfolders(folder)[:_MOST_FOLDERS]
        if (candidates := _candidates(inner, source, data_format, depth - 1))
    ]
    if len(inside) > 1:
        return [Candidate(found[0].kind, found[0].format, f"data={inner}", found[0].open) for inner, found in inside]
    return inside[0][1] if inside else []


def _nothing(folder: Path, data_format: Format | None) -> str:
    if other := refuse_others(folder):
        return other
    if not any(folder.iterdir()):
        return f"{folder}: is empty. Check the path."
    if has_pictures(folder):
        wanted = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO"}.get(
            data_format or "", "COCO, Pascal VOC or YOLO"
        )
        return (
            f"{folder}: has pictures and no annotations that are known as {wanted}; put data.yaml, a COCO file or the "
            "XML files there, or name them with data.train_annotations and data.train_images."
        )
    archive = next((path for path in files_of(folder, ("",)) if is_archive(path)), None)
    if archive is not None:
        return refuse_other(archive) or ""
    return f"{folder}: has neither pictures nor annotations in a place that is known. Check the path."
