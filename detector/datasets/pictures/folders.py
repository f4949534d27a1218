"""Pictures in folders: which there are, and which belongs to an annotation file."""

import os
from pathlib import Path, PurePosixPath

from detector.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2")


def list_files(folder: str | Path, suffixes: tuple[str, ...]) -> list[str]:
    """Files below a folder with one of the suffixes (in any case), sorted, relative to it, with forward slashes.

    Raises:
        UserError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder. Check the path.")
    found = [
        Path(parent, name).relative_to(root).as_posix()
        for parent, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.lower().endswith(suffixes)
    ]
    return sorted(found)


def by_stem(names: list[str]) -> dict[str, str]:
    """File names without their suffix → file names. Raises UserError where two differ in the suffix only."""
    table: dict[str, str] = {}
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in table:
            raise UserError(f"{table[stem]} and {name} differ in their suffix only; rename or remove one of them.")
        table[stem] = name
    return table
