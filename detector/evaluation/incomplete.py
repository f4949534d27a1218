"""What is said of an evaluation in which pictures could not be read: nobody shall take it for one of the whole set."""

import json
from collections.abc import Sequence
from pathlib import Path

UNREADABLE = "unreadable_images"  # in metrics.json
_MOST_BYTES = 2**26
_MOST_NAMED = 3


def describe_incomplete(unreadable: Sequence[str]) -> str | None:
    """A sentence for people; None for the score of a whole set.

    Args:
        unreadable: what is wrong with each picture that no detector saw, as sentences.
    """
    if not unreadable:
        return None
    count = len(unreadable)
    return (
        f"INCOMPLETE: these are not the numbers of the whole set. {count} picture{'' if count == 1 else 's'} could not "
        f"be read, so all objects there count as missed: {' '.join(unreadable[:_MOST_NAMED])}"
        f"{f' … and {count - _MOST_NAMED} more.' if count > _MOST_NAMED else ''}"
    )


def unreadable_beside(detections: Path) -> tuple[str, ...]:
    """What the metrics beside a file of detections say of pictures that could not be read, if they say anything."""
    path = detections.with_name("metrics.json")
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ()
        said = json.loads(path.read_text(encoding="utf-8"))[UNREADABLE]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(map(str, said)) if isinstance(said, list) else ()
