"""COCO annotation files (instances JSON, also compressed by gzip) as they stand."""

import gc
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from detector.datasets.formats.contents import Contents, Row
from detector.datasets.formats.masks import mask_bounds
from detector.datasets.formats.other_formats import known_by_content
from detector.errors import UserError

Masks = Literal["drop", "compare", "keep"]

TABLES = ("images", "annotations", "categories")

# What a reader leaves in the place of a segmentation: its bounds, where bbox lacks or contradicts them.
MASK_BOUNDS = "bounds of segmentation"

_GZIP = b"\x1f\x8b"
_MOST_BYTES = 2**33  # of a compressed file's content: a hostile megabyte stands for a gigabyte


def coco_contents(annotations: str | Path, masks: Masks = "drop") -> Contents:
    """A COCO file as it is.

    Args:
        annotations: the file; one compressed by gzip is known by its content, not by its name.
        masks: what becomes of `segmentation`, which takes most of the memory: "drop" uses it for the box of an
            annotation that has none; "compare" also notes its bounds where a box contradicts them; "keep" leaves it
            there too, for those who will write the file again.

    Raises:
        UserError: it is missing, not JSON, or lacks one of its three lists of objects.
    """
    source = str(annotations)
    with known_by_content(Path(annotations)):
        return coco_tables(read_json(source, "annotations", _HOOKS[masks]), source)


def coco_tables(content: Any, source: str) -> Contents:
    """The contents of a COCO file that is in memory. Raises UserError where they lack a list of objects."""
    if isinstance(content, list) and content and isinstance(content[0], Mapping) and "score" in content[0]:
        raise UserError(f"{source}: is a file of detections, which have scores; give the annotations here.")
    if not isinstance(content, Mapping):
        raise UserError(f"{source}: not a COCO file, which is an object with images, annotations and categories.")
    for table in TABLES:
        rows = content.get(table)
        if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
            raise UserError(f"{source}: has no list of objects named {table}; a COCO file has {', '.join(TABLES)}.")
    return Contents(source, dict(content))


def without_bounds(content: Row) -> Row:
    """A file's contents without what this reader noted in them. Entries are changed, not copied."""
    for row in content["annotations"]:
        row.pop(MASK_BOUNDS, None)
    return content


def read_json(path: str | Path, what: str, object_hook: Callable[[Row], Row] | None = None) -> Any:
    """The content of a JSON file, which may be compressed by gzip.

    Args:
        what: names the content in messages.
        object_hook: called with each object as soon as it is read; what it returns takes the object's place.

    Raises:
        UserError: the file is missing, or holds no JSON.
    """
    try:
        with _without_garbage_collection():
            return json.loads(_uncompressed(Path(path).read_bytes()), object_hook=object_hook)
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what} ({error.strerror or error}). Check the path.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from None
    except (ValueError, RecursionError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a JSON file ({reason}). Is it complete, and the right one?") from None


def _uncompressed(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES} bytes when uncompressed")
    return content


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Millions of new containers make the collector search them all again and again; none of them is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _drop_mask(entry: Row) -> Row:
    """Polygons take most of the memory of a parsed file, and only boxes are wanted."""
    if "segmentation" in entry:
        mask = entry.pop("segmentation")
        if mask and not entry.get("bbox"):
            _note_bounds(entry, mask)
    return entry


def _compare_mask(entry: Row) -> Row:
    if "segmentation" in entry:
        _note_bounds(entry, entry.pop("segmentation"))
    return entry


def _keep_mask(entry: Row) -> Row:
    if "segmentation" in entry:
        _note_bounds(entry, entry["segmentation"])
    return entry


def _note_bounds(entry: Row, mask: Any) -> None:
    if mask and (bounds := mask_bounds(mask, entry.get("bbox"))) is not None:
        entry[MASK_BOUNDS] = bounds


_HOOKS = {"drop": _drop_mask, "compare": _compare_mask, "keep": _keep_mask}
