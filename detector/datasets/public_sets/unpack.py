"""Archives opened without trusting them: nothing lands outside of its folder, and no more than was announced."""

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from detector.errors import UserError

SPARE = 2.0  # how many times what is written in `addresses` an archive may unpack to


def unpack(archive: Path, folder: Path, below: str, expected: int) -> None:
    """Unpack the files of a .zip or .tar into `folder`; those of the same names are replaced.

    Args:
        below: take only what lies under this folder of the archive, without that prefix.
        expected: bytes that come out, about; twice as many are refused.

    Raises:
        UserError: it is damaged, holds names that leave the folder, or far more than expected.
        OSError: `folder` cannot be written.
    """
    written = 0
    files = _zip_files if zipfile.is_zipfile(archive) else _tar_files
    try:
        with tqdm(desc=f"unpacking {archive.name}", total=expected, unit="B", unit_scale=True, disable=None) as bar:
            for name, size, source in files(archive):
                if not name.startswith(below):
                    continue
                target = _inside(folder, name[len(below) :], archive)
                written += size
                if written > SPARE * expected:
                    raise UserError(
                        f"{archive.name}: holds more than {SPARE:.0f} times {expected} bytes; not unpacked."
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
                bar.update(size)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive.name}: damaged ({error}); delete {archive} to fetch it again.") from None


def _inside(folder: Path, name: str, archive: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise UserError(f"{archive.name}: holds the name {name!r}, which leaves its folder; not unpacked.")
    target = folder.joinpath(*path.parts)
    # A link that lies in the folder already may lead out of it.
    if not os.path.realpath(target).startswith(os.path.realpath(folder) + os.sep):
        raise UserError(f"{archive.name}: {name!r} would be written through a link out of {folder}; not unpacked.")
    return target


def _zip_files(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            if not entry.is_dir():
                yield entry.filename, entry.file_size, content.open(entry)


def _tar_files(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive) as content:
        for entry in content:
            if entry.isfile():  # no links, devices or FIFOs: the sets have none
                source = content.extractfile(entry)
                assert source is not None
                yield entry.name.removeprefix("./"), entry.size, source
