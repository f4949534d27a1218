"""The splits of a config's data, opened alike by training, scoring and checking."""

from detector.config import DataConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.formats.yolo_splits import is_there
from detector.datasets.hold_out import hold_out
from detector.errors import UserError


def open_train_and_val(data: DataConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The training data, and the val split where the settings name one or have it held out.

    Raises:
        UserError: there is no training data, no object in it (unless `data.require_objects` is false), half of a val
            split, a file of them cannot be used, or the splits have different classes.
    """
    if data.train_annotations is None or data.train_images is None:
        raise UserError("data.train_annotations and data.train_images are not set: there is nothing to train on.")
    paths = split_paths(data, "val")
    train = _open(data, data.train_annotations, data.train_images)
    val = None
    if paths is not None:
        val = _open(data, *paths, like=train)
    elif data.hold_out:
        train, val = hold_out(train, data.hold_out, data.hold_out_seed)
    if data.require_objects:
        require_objects(train)
    return train, val


def require_objects(train: DetectionDataset) -> None:
    """Raise UserError unless a training picture has an object: the usual cause is labels that were not found."""
    if train.object_counts().any():
        return
    crowds = " other than crowd regions and difficult objects" if len(train.boxes) else ""
    dropped = f" ({train.dropped} without area were left out)" if train.dropped else ""
    raise UserError(
        f"{train.annotation_path}: none of the {len(train)} training pictures in {train.image_root} has a box{crowds}"
        f"{dropped}, so there is nothing to learn; check the annotations (faster-rcnn check-data), or train on "
        "pictures without objects alone by data.require_objects=false."
    )


def open_split(data: DataConfig, split: str, drop_degenerate_boxes: bool | None = None) -> DetectionDataset:
    """One split of a config's data; val may be held out of the training pictures.

    Args:
        split: `train`, `val` or `test`.
        drop_degenerate_boxes: as `open_dataset` has it; None: as the settings say.

    Raises:
        UserError: the settings do not name it, or its files cannot be used.
    """
    drop = data.drop_degenerate_boxes if drop_degenerate_boxes is None else drop_degenerate_boxes
    paths = split_paths(data, split)
    train = split_paths(data, "train")
    is_held_out = data.hold_out > 0 and split_paths(data, "val") is None and train is not None
    if is_held_out and split in ("train", "val") and train is not None:
        whole = open_dataset(data.format, *train, drop)
        return hold_out(whole, data.hold_out, data.hold_out_seed)[split == "val"]
    if paths is None:
        raise UserError(f"there is no {split} split: data.{split}_annotations and data.{split}_images are not set.")
    return open_dataset(data.format, *paths, drop)


def split_paths(data: DataConfig, split: str) -> tuple[str, str] | None:
    """Annotations and pictures of a split as the settings name them, or None. Raises UserError where one is missing."""
    annotations: str | None = getattr(data, f"{split}_annotations")
    images: str | None = getattr(data, f"{split}_images")
    if annotations is not None and images is not None:
        return annotations, images
    if annotations is not None or images is not None:
        given, missing = ("annotations", "images")[:: 1 if images is None else -1]
        raise UserError(
            f"data.{split}_{given} is set and data.{split}_{missing} is not: set both to score the model, or neither."
        )
    return None


def describe_hold_out(data: DataConfig) -> str:
    """How the val split is chosen, where it is held out."""
    return (
        f"{data.hold_out:.0%} of the training pictures are the val split, chosen by a hash of their bytes "
        f"(data.hold_out={data.hold_out:g}, data.hold_out_seed={data.hold_out_seed})"
    )


def missing_paths(data: DataConfig) -> list[str]:
    """The settings that name files or folders which are not there, as `key=path`."""
    keys = [f"{split}_{what}" for split in ("train", "val", "test") for what in ("annotations", "images")]
    values = ((key, getattr(data, key)) for key in keys)
    return [f"data.{key}={path}" for key, path in values if path is not None and not is_there(path)]


def _open(data: DataConfig, annotations: str, images: str, like: DetectionDataset | None = None) -> DetectionDataset:
    drop, most = data.drop_degenerate_boxes, data.max_dropped
    return open_dataset(data.format, annotations, images, drop, max_dropped=most, like=like)
