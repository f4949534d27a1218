"""What can be wrong with annotations and pictures: the kinds of fault, and one fault found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detector.errors import one_line


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    name: for `--ignore`. meaning: what is the matter. remedy: what to do. mended: what a repair does about it, or None
    where it would have to guess.
    """

    name: str
    meaning: str
    remedy: str
    mended: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    image_id, image: the picture's id and file name, where there is one. annotation: its id, or where it stands in its
    file. detail: the values that are wrong. place: position among the file's images (faults of pictures), annotations
    or categories, for the repair; None where there is nothing that a repair could touch.
    """

    kind: Kind
    image_id: int | None = None
    image: str = ""
    annotation: Any = None
    detail: str = ""
    place: int | None = None

    def where(self) -> str:
        """`annotation 17 of image 5 (a.jpg)`, as far as it is known."""
        image = "" if self.image_id is None else f"image {self.image_id}"
        if self.image:
            image = f"{image} ({self.image})" if image else self.image
        if self.annotation is None:
            return image
        return f"annotation {self.annotation}" + (f" of {image}" if image else "")

    def __str__(self) -> str:
        return one_line(": ".join(part for part in (self.where(), self.detail) if part), limit=400)


_DROP = "the annotation is removed"
_DROP_IMAGE = "the picture's entry and its annotations are removed"

# Files and tables.
UNREADABLE_FILE = Kind(
    "unreadable-file", "an annotation file cannot be understood", "mend the file, or delete it", "it is left out"
)
UNREADABLE_OBJECT = Kind(
    "unreadable-object", "an object or line cannot be understood", "mend it, or delete it", "it is left out"
)
LABELS_WITHOUT_PICTURE = Kind(
    "labels-without-picture", "a text file belongs to no picture", "add the picture, or delete the file"
)
EMPTY_TABLE = Kind("empty-table", "there is nothing to train on", "check that it is the right file")
BAD_IMAGE = Kind("bad-image-entry", "an image lacks an id that is a whole number, or a file_name", "mend the entry")
BAD_SIZE = Kind(
    "bad-size",
    "width or height is not a positive whole number",
    "give the upright picture's size, or neither",
    "the size is taken from the picture, or removed",
)
BAD_CATEGORY = Kind("bad-category-entry", "a category lacks an id that is a whole number, or a name", "mend the entry")
BAD_AREA = Kind(
    "bad-area", "area is not a finite number from 0 up", "remove it: the box's is taken then", "the area is removed"
)

# Ids.
DUPLICATE_IMAGE = Kind(
    "duplicate-image-id",
    "two images have the same id, so nobody knows whose the annotations are",
    "give each its own id",
    "an entry that repeats another word for word is removed; others are left",
)
DUPLICATE_ANNOTATION = Kind(
    "duplicate-annotation-id",
    "two annotations have the same id",
    "give each its own",
    "all but the first get new ids",
)
DUPLICATE_CATEGORY = Kind(
    "duplicate-category-id",
    "two categories have the same id",
    "give each its own, and correct the annotations",
    "an entry that repeats another word for word is removed; others are left",
)
REPEATED_NAME = Kind(
    "repeated-category-name",
    "two categories have the same name, so the network has to tell apart what is the same",
    "merge them, or rename one",
)
UNUSED_CATEGORY = Kind(
    "unused-category",
    "a category has no annotation: it takes part in training and can never be detected",
    "remove it, or --ignore unused-category if other files use it",
)
UNKNOWN_IMAGE = Kind(
    "unknown-image", "the annotation's image is not in the list", "add the image, or remove the annotation", _DROP
)
UNKNOWN_CATEGORY = Kind(
    "unknown-category", "the annotation's category is not in the list", "add the category, or correct the annotation"
)
LISTED_TWICE = Kind(
    "listed-twice",
    "a file is listed as two images: each is trained on with half of its objects unmarked, if they share them",
    "merge the two entries",
)
CATEGORIES_DIFFER = Kind(
    "categories-differ", "the splits have different categories", "give both the same list of ids and names"
)

# Boxes.
MALFORMED_BOX = Kind(
    "malformed-box", "bbox is not a list of four numbers [x, y, width, height]", "mend or remove it", _DROP
)
NON_FINITE_BOX = Kind("non-finite-box", "a coordinate is infinite or not a number", "mend or remove it", _DROP)
SWAPPED_CORNERS = Kind(
    "swapped-corners",
    "width or height is negative: the corners are exchanged",
    "exchange them",
    "the corners are put in order",
)
ZERO_SIZE_BOX = Kind(
    "zero-size-box", "width or height is 0: training leaves the box out, scoring counts it", "mend or remove it", _DROP
)
BOX_OUTSIDE = Kind(
    "box-outside",
    "the box lies outside its picture: training leaves it out, scoring counts it",
    "mend or remove it",
    _DROP,
)
BOX_PARTLY_OUTSIDE = Kind(
    "box-partly-outside",
    "the box reaches over the picture's edge: training cuts it off, scoring does not",
    "cut it off at the edge",
    "the box is cut off at the edge",
)
REPEATED_BOX = Kind(
    "repeated-box", "the same box of the same category is there before in its picture", "remove it", _DROP
)

# Pictures.
MISSING_PICTURE = Kind("missing-picture", "there is no such file", "check --images, or remove the image", _DROP_IMAGE)
BROKEN_PICTURE = Kind(
    "broken-picture", "the file cannot be decoded to its end", "replace the file, or remove the image", _DROP_IMAGE
)
SIZE_DIFFERS = Kind(
    "size-differs",
    "the annotations state another size than the picture has, so the boxes may belong to a picture of another size",
    "look at one; correct width and height, or scale the boxes",
)
EXIF_SIZE = Kind(
    "exif-size",
    "the annotations state the size before EXIF turns the picture upright, as training sees it",
    "look at one; if its boxes fit the upright picture exchange width and height, if they fit the one as stored turn "
    "them with it (or strip the EXIF orientation)",
)
SAME_PICTURE = Kind(
    "same-picture", "two files have the same pixels", "keep one, with the better annotations, and remove the other"
)
IN_BOTH_SPLITS = Kind(
    "in-both-splits",
    "a picture is in both splits, so scores on it say nothing",
    "remove it from one of them",
)

KINDS: tuple[Kind, ...] = (
    UNREADABLE_FILE,
    UNREADABLE_OBJECT,
    LABELS_WITHOUT_PICTURE,
    EMPTY_TABLE,
    BAD_IMAGE,
    BAD_SIZE,
    BAD_CATEGORY,
    BAD_AREA,
    DUPLICATE_IMAGE,
    DUPLICATE_ANNOTATION,
    DUPLICATE_CATEGORY,
    REPEATED_NAME,
    UNUSED_CATEGORY,
    UNKNOWN_IMAGE,
    UNKNOWN_CATEGORY,
    LISTED_TWICE,
    CATEGORIES_DIFFER,
    MALFORMED_BOX,
    NON_FINITE_BOX,
    SWAPPED_CORNERS,
    ZERO_SIZE_BOX,
    BOX_OUTSIDE,
    BOX_PARTLY_OUTSIDE,
    REPEATED_BOX,
    MISSING_PICTURE,
    BROKEN_PICTURE,
    SIZE_DIFFERS,
    EXIF_SIZE,
    SAME_PICTURE,
    IN_BOTH_SPLITS,
)


def by_kind(faults: Sequence[Fault]) -> dict[Kind, list[Fault]]:
    """The faults of each kind that there are, in the order of `KINDS`."""
    table: dict[Kind, list[Fault]] = {kind: [] for kind in KINDS}
    for fault in faults:
        table[fault.kind].append(fault)
    return {kind: found for kind, found in table.items() if found}


def summarise(faults: Sequence[Fault]) -> list[str]:
    """One line for each kind that there is: how many, the first of them, and what to do."""
    return [
        f"{len(found)} × {kind.name}: {kind.meaning} (first: {found[0]}); {kind.remedy}."
        for kind, found in by_kind(faults).items()
    ]
