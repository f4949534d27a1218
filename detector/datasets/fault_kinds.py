"""The kinds of fault that annotations and pictures may have: what each means, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of fault that annotations or pictures may have.

    name: for `--ignore`. meaning: what is wrong. remedy: what to do. fix: what a repair does about it, or None where it
    would have to guess.
    """

    name: str
    meaning: str
    remedy: str
    fix: str | None = None


_DROP = "the annotation is removed"
_DROP_IMAGE = "the picture's entry and its annotations are removed"

# Files and tables.
UNREADABLE_FILE = Kind(
    "unreadable-file", "an annotation file cannot be understood", "correct the file, or delete it", "it is left out"
)
UNREADABLE_OBJECT = Kind(
    "unreadable-object", "an object or line cannot be understood", "correct it, or delete it", "it is left out"
)
LABELS_WITHOUT_PICTURE = Kind(
    "labels-without-picture", "a text file belongs to no picture", "add the picture, or delete the file"
)
MISSING_SPLIT = Kind(
    "missing-split", "the train split is named and not there", "put it there, correct its path, or take it out"
)
EMPTY_TABLE = Kind("empty-table", "there is nothing to train on, or to score by", "check that it is the right file")
UNREAD_FILES = Kind(
    "unread-files",
    "files beside the pictures are in a format that is not read, so they take no part",
    "convert them to PNG or JPEG, or move them away",
)
BAD_IMAGE = Kind(
    "bad-image-entry", "an image has no id that is a whole number below 2^63", "give it one (as a number, not as text)"
)
BAD_FILE_NAME = Kind(
    "bad-file-name",
    "an image's file_name is missing, or leaves the folder of pictures",
    "name the file by its path below that folder, with forward slashes",
)
BACKSLASHES = Kind(
    "backslashes",
    "an image's file_name has backslashes, which are read as forward slashes",
    "write forward slashes",
    "they become forward slashes",
)
BAD_SIZE = Kind(
    "bad-size",
    "width or height is not a positive whole number",
    "give the upright picture's size, or neither",
    "the size is taken from the picture, or removed",
)
BAD_CATEGORY = Kind(
    "bad-category-entry",
    "a category has no id that is a whole number below 2^63, or no name",
    "give it both (the id as a number, not as text)",
)
BAD_AREA = Kind(
    "bad-area",
    "area is not a finite number of at least 0, so the box's area is used",
    "correct or remove it",
    "the area is removed",
)
BAD_CROWD = Kind(
    "bad-iscrowd",
    "iscrowd is neither 0 nor 1",
    "write it as a number, 0 for an object and 1 for a crowd region",
    "text that says 0 or 1 becomes that number",
)
IGNORE_MARK = Kind(
    "ignore-mark",
    "an annotation has ignore, which is not read: training and scoring take it for an object, as pycocotools does, "
    "which goes by iscrowd",
    "write iscrowd 1 for a region that is to be left out of account, or remove the annotation",
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
SIMILAR_NAME = Kind(
    "similar-category-name",
    "two category names differ in upper and lower case, spaces or hyphens only, and are two classes",
    "give all objects of one class the same name",
)
PLACEHOLDER_CATEGORY = Kind(
    "placeholder-category",
    "a category stands for the whole dataset or repeats another one's name and has no annotation, so it is left out",
    "remove it",
    "the category is removed",
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
    "malformed-box", "bbox is not a list of four numbers [x, y, width, height]", "correct or remove it", _DROP
)
BOX_FROM_MASK = Kind(
    "box-from-mask",
    "an annotation has a segmentation and no bbox, so the segmentation's bounds are taken",
    "write the bbox",
    "the segmentation's bounds become the bbox",
)
BOX_BESIDE_MASK = Kind(
    "box-beside-mask",
    "the bbox and the segmentation of an annotation are in different places",
    "look at one: bbox is [x, y, width, height] from the upper left corner, neither [x1, y1, x2, y2] nor counted from "
    "the lower edge",
)
FRACTIONS = Kind(
    "fractions",
    "every box lies between 0 and 1: they are fractions of the pictures, and pixels are read",
    "multiply x and width by the picture's width, y and height by its height",
)
CORNERS = Kind(
    "corners-as-box",
    "many boxes reach far over the edge of their pictures, and as [x1, y1, x2, y2] all would fit: they are read as "
    "[x, y, width, height]",
    "look at one; if they are corners, subtract x1 from x2 and y1 from y2",
)
CORNERS_BY_CENTRE = Kind(
    "corners-as-centre",
    "many boxes reach far over the edge of their pictures, and as x1 y1 x2 y2 all would fit: they are read as x_center "
    "y_center width height",
    "look at one; if they are corners, write their middle and the differences",
)
NON_FINITE_BOX = Kind("non-finite-box", "a coordinate is infinite or not a number", "correct or remove it", _DROP)
SWAPPED_CORNERS = Kind(
    "swapped-corners",
    "width or height is negative: the corners are exchanged, and read in order",
    "exchange them",
    "the corners are put in order",
)
ZERO_SIZE_BOX = Kind(
    "zero-size-box",
    "width or height is 0: training leaves the box out, scoring counts it",
    "correct or remove it",
    _DROP,
)
BOX_OUTSIDE = Kind(
    "box-outside",
    "the box lies outside its picture: training leaves it out, scoring counts it",
    "correct or remove it",
    _DROP,
)
BOX_PARTLY_OUTSIDE = Kind(
    "box-partly-outside",
    "the box reaches over the picture's edge: training cuts it off, scoring does not",
    "cut it off at the edge",
    "the box is cut off at the edge",
)
REPEATED_BOX = Kind(
    "repeated-box", "the same box of the same category occurs earlier in its picture", "remove it", _DROP
)

# Pictures.
MISSING_PICTURE = Kind("missing-picture", "there is no such file", "check --images, or remove the image", _DROP_IMAGE)
BROKEN_PICTURE = Kind(
    "broken-picture", "the file cannot be decoded to its end", "replace the file, or remove the image", _DROP_IMAGE
)
SIZE_DIFFERS = Kind(
    "size-differs",
    "the annotations state a size that is not the picture's, so the boxes may belong to a picture of another size",
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
    UNREAD_FILES,
    MISSING_SPLIT,
    EMPTY_TABLE,
    BAD_IMAGE,
    BAD_FILE_NAME,
    BACKSLASHES,
    BAD_SIZE,
    BAD_CATEGORY,
    BAD_AREA,
    BAD_CROWD,
    IGNORE_MARK,
    DUPLICATE_IMAGE,
    DUPLICATE_ANNOTATION,
    DUPLICATE_CATEGORY,
    REPEATED_NAME,
    SIMILAR_NAME,
    PLACEHOLDER_CATEGORY,
    UNUSED_CATEGORY,
    UNKNOWN_IMAGE,
    UNKNOWN_CATEGORY,
    LISTED_TWICE,
    CATEGORIES_DIFFER,
    MALFORMED_BOX,
    BOX_FROM_MASK,
    BOX_BESIDE_MASK,
    FRACTIONS,
    CORNERS,
    CORNERS_BY_CENTRE,
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

# What leaves it open which boxes belong to which picture, so that neither training nor scoring can go on.
STOPS_SCORING = frozenset(
    (
        UNREADABLE_FILE,
        UNREADABLE_OBJECT,
        BAD_IMAGE,
        BAD_CATEGORY,
        BAD_CROWD,
        DUPLICATE_IMAGE,
        DUPLICATE_CATEGORY,
        UNKNOWN_IMAGE,
        UNKNOWN_CATEGORY,
        MALFORMED_BOX,
        FRACTIONS,
        NON_FINITE_BOX,
    )
)
# Training opens the pictures too.
STOPS_TRAINING = STOPS_SCORING | {BAD_FILE_NAME, BAD_SIZE, MISSING_PICTURE, BROKEN_PICTURE}
