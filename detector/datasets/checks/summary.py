"""What a set of annotations holds, as text: counts by class, sizes of the boxes, and how well the anchors fit them."""

import numpy as np

from detector.config import Config
from detector.datasets.columns import Columns
from detector.datasets.formats.contents import Format, count_ignored
from detector.datasets.pictures.sizes import resized_size

# Square roots of areas, in pixels of the original image. 32 and 96 are where COCO's scores part small, medium, large.
EDGES = (0.0, 1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 96.0, 128.0, 256.0, 512.0, np.inf)
BAR = 40  # characters of the longest bar
EXTENTS = (1e-9, 1e9)  # pixels; products of shorter and longer ones would leave what floats hold, and tell no more


def describe_counts(columns: Columns, data_format: Format = "coco") -> list[str]:
    """Pictures and boxes, in all and of each class; crowd regions, and VOC's difficult objects, are counted apart."""
    ignored, kind = int(columns.iscrowd.sum()), "difficult objects" if data_format == "voc" else "crowd regions"
    objects = (columns.owners >= 0) & (columns.classes >= 0) & ~columns.iscrowd
    owners, classes = columns.owners[objects], columns.classes[objects]
    per_image = np.bincount(owners, minlength=len(columns.image_ids))
    per_class = np.bincount(classes, minlength=len(columns.categories))
    pairs = np.unique(owners * len(columns.categories) + classes)
    pictures = np.bincount(pairs % max(len(columns.categories), 1), minlength=len(columns.categories))
    lines = [
        f"{len(columns.image_ids)} pictures, {int((per_image == 0).sum())} of them without objects; "
        f"{len(columns.boxes)} annotations, {ignored} of them {kind}; "
        f"at most {max(per_image.tolist(), default=0)} objects in a picture"
    ]
    if ignored:
        lines.append(f"  {count_ignored(ignored, data_format)}")
    names = [f"{number} {name}" for number, name in columns.categories]
    width = max((len(name) for name in names), default=0)
    lines += [
        f"  {name:{width}}  {count:>8} objects ({count / max(len(owners), 1):6.1%}) in {in_pictures:>7} pictures"
        for name, count, in_pictures in zip(names, per_class.tolist(), pictures.tolist(), strict=True)
    ]
    return lines


def describe_sizes(columns: Columns) -> list[str]:
    """A histogram of the square roots of the boxes' areas, and their aspect ratios."""
    boxes = _sound_boxes(columns)[0]
    if len(boxes) == 0:
        return ["no boxes with an area"]
    edges = np.sqrt(boxes[:, 2] * boxes[:, 3])
    counts, _ = np.histogram(edges, EDGES)
    lines = ["square roots of the boxes' areas, in pixels of the files:"]
    for low, high, count in zip(EDGES[:-1], EDGES[1:], counts.tolist(), strict=True):
        name = f"{low:g} and more" if np.isinf(high) else f"{low:g} to {high:g}"
        bar = "#" * round(BAR * count / int(counts.max()))
        lines.append(f"  {name:>12}  {count:>8}  {bar}".rstrip())
    ratios = np.quantile(boxes[:, 3] / boxes[:, 2], (0.05, 0.5, 0.95))
    lines.append("height / width: {:.2f} at 5 %, {:.2f} at 50 %, {:.2f} at 95 % of them".format(*ratios))
    return lines


def describe_anchors(columns: Columns, config: Config) -> str:
    """How many boxes, at test size, some anchor fits with an IoU of at least 0.5, if it lay right on them.

    Boxes that no anchor fits are learnt from the best of the bad ones: the network then has to move it far.
    """
    boxes, owners = _sound_boxes(columns)
    sizes = columns.sizes[owners]
    boxes, sizes = boxes[sizes[:, 0] > 0], sizes[sizes[:, 0] > 0]
    if len(boxes) == 0:
        return "anchors: no boxes in pictures of known size to compare with"
    inputs, rpn = config.input, config.model.rpn
    distinct, inverse = np.unique(sizes, axis=0, return_inverse=True)
    resized = [
        resized_size((height, width), inputs.min_size_test, inputs.max_size_test, inputs.resize)
        for height, width in distinct.tolist()
    ]
    scales = (np.array(resized) / distinct)[inverse.reshape(-1)]
    heights, widths = boxes[:, 3] * scales[:, 0], boxes[:, 2] * scales[:, 1]
    best = np.zeros(len(boxes))
    for size in rpn.anchor_sizes:
        for ratio in rpn.anchor_ratios:
            height, width = size * np.sqrt(ratio), size / np.sqrt(ratio)
            shared = np.minimum(heights, height) * np.minimum(widths, width)
            best = np.maximum(best, shared / (heights * widths + size**2 - shared))
    anchor_sizes, ratios = (", ".join(f"{value:g}" for value in v) for v in (rpn.anchor_sizes, rpn.anchor_ratios))
    fitting, positive = np.mean(best >= 0.5), np.mean(best >= rpn.positive_iou)
    return (
        f"anchors of {anchor_sizes} pixels, height / width {ratios}: {fitting:.1%} of the boxes have one of their size "
        f"and shape (IoU ≥ 0.5; {positive:.1%} with ≥ {rpn.positive_iou:g}) once resized for testing (shortest edge "
        f"{inputs.min_size_test}, longest at most {inputs.max_size_test})"
    )


def _sound_boxes(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (x, y, width, height) of objects that have an area and a picture, and the indices of these.

    Widths and heights are brought into `EXTENTS`; those of exchanged corners count without their sign.
    """
    sound = (columns.owners >= 0) & ~columns.iscrowd & np.isfinite(columns.boxes).all(axis=1)
    sound[sound] = (columns.boxes[sound, 2:] != 0).all(axis=1)
    boxes = columns.boxes[sound]
    boxes[:, 2:] = np.abs(boxes[:, 2:]).clip(*EXTENTS)
    return boxes, columns.owners[sound]
