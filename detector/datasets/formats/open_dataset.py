"""Open annotations of any format."""

from pathlib import Path

from detector.datasets.dataset import DetectionDataset, check_same_categories, make_dataset
from detector.datasets.fault_kinds import STOPS_TRAINING
from detector.datasets.faults import refuse, summarise
from detector.datasets.formats.coco import Masks, coco_contents
from detector.datasets.formats.contents import Contents, Format, required_folder
from detector.datasets.formats.other_formats import known_by_content, refuse_other
from detector.datasets.formats.parsing import parse
from detector.datasets.formats.picture_list import is_picture_list
from detector.datasets.formats.voc import one_file, voc_contents
from detector.datasets.formats.yolo import yolo_contents
from detector.datasets.formats.yolo_splits import named_split
from detector.datasets.pictures.folders import list_files
from detector.errors import UserError


def read_contents(
    data_format: Format | str,
    annotations: str | Path,
    images: str | Path | None,
    masks: Masks = "drop",
    like: DetectionDataset | None = None,
) -> Contents:
    """Annotations of any format in the form of a COCO file's contents, unchecked.

    Args:
        data_format: `coco`, `voc` or `yolo`.
        annotations: COCO's JSON file; VOC's folder of XML files, or a list file of names in ImageSets/Main; YOLO's
            data.yaml, one of its splits (`data.yaml#train`), folder of label files, or list of pictures.
            `coco_contents`, `voc_contents` and `yolo_contents` have the details.
        images: folder of the pictures; None will do for COCO and VOC.
        masks: see `coco_contents`.
        like: see `open_dataset`.

    Raises:
        UserError: there are no such annotations, or the format needs the pictures and `images` is not given.
    """
    if data_format == "coco":
        return coco_contents(annotations, masks)
    if data_format == "voc":
        with known_by_content(Path(annotations)):
            return voc_contents(annotations, images, None if like is None else like.categories)
    if data_format == "yolo":
        folder = required_folder(images, "YOLO's boxes are fractions of their sizes")
        with known_by_content(Path(annotations)):
            return yolo_contents(annotations, folder)
    raise UserError(f"data.format={data_format}: choose coco, voc or yolo.")


def open_dataset(
    data_format: Format | str,
    annotations: str | Path,
    images: str | Path,
    drop_degenerate_boxes: bool = True,
    like: DetectionDataset | None = None,
    max_dropped: float = 1.0,
) -> DetectionDataset:
    """Read an annotated set of pictures.

    Args:
        data_format, annotations: see `read_contents`.
        images: folder of the pictures.
        drop_degenerate_boxes: leave out boxes without area, and count them; false refuses them.
        like: the training split, where this is a split that goes with it and must have the same categories. A VOC tree
            has no list of its classes: alone, one in which a rare class is absent would number the others differently.
        max_dropped: the greatest share of boxes that may be left out.

    Raises:
        UserError: the annotations cannot be read or contradict themselves, or their categories are others; the message
            names the first entry.
    """
    required_folder(images, "the pictures are trained on")
    contents = read_contents(data_format, annotations, images, like=like)
    columns, faults = parse(contents)
    refuse(faults, STOPS_TRAINING, contents.source)
    dataset = make_dataset(
        columns, images, drop_degenerate_boxes, max_dropped, is_coco_file=data_format == "coco", notes=summarise(faults)
    )
    if like is not None:
        check_same_categories(like, dataset)
    return dataset


def guess_format(annotations: Path) -> Format:
    """The format of annotations, by what they hold rather than by their name.

    Raises:
        UserError: there is nothing, or nothing that looks like annotations.
    """
    if named_split(annotations) is not None:
        return "yolo"
    if not annotations.exists():
        raise UserError(f"{annotations}: no such file or folder of annotations. Check the path.")
    if annotations.is_dir():
        return "voc" if list_files(annotations, (".xml",)) else "yolo"
    with annotations.open("rb") as stream:
        start = stream.read(4096)
    # JSON may be compressed, and begin with a byte order mark; YAML in braces is written by nobody.
    if start.startswith(b"\x1f\x8b") or start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] in b"{[":
        return "coco"
    if annotations.suffix.lower() in (".yaml", ".yml", ".names", ".data") or annotations.name == "classes.txt":
        return "yolo"
    if is_picture_list(annotations):
        return "yolo"
    if annotations.suffix.lower() == ".txt":
        return "voc"
    if annotations.suffix.lower() == ".xml":
        raise UserError(refuse_other(annotations) or one_file(annotations))
    raise UserError(
        refuse_other(annotations)
        or f"{annotations}: is neither JSON nor a list or YAML file of annotations; name its format, or check the path."
    )
