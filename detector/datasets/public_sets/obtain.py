"""Fetch a public data set: resumed, checked, unpacked where the recipes look, and once only.

`DETECTOR_OFFLINE` and `DETECTOR_MIRROR` have the same meaning as for published weights.
"""

import hashlib
import logging
import shutil
from contextlib import ExitStack
from pathlib import Path

from detector.datasets.public_sets.addresses import Archive, PublicSet
from detector.datasets.public_sets.unpack import unpack
from detector.disk import file_digest, hold_folder, write_atomically
from detector.download import DownloadError, DownloadPolicy, address, download_checked, is_offline, partial_of
from detector.errors import UserError

log = logging.getLogger(__name__)


def obtain(name: str, public: PublicSet, folder: Path, policy: DownloadPolicy | None = None) -> None:
    """Fetch and unpack what is not there yet of a data set.

    What was interrupted goes on where it stopped. An archive is deleted once its contents are in place.

    Args:
        name: of the set, for messages.
        folder: where its contents go.

    Raises:
        UserError: one sentence: no network, no room, a wrong checksum, an archive that is not what it should be, or
            another process is fetching into the folder.
    """
    missing = [archive for archive in public.archives if not _marker(archive, folder).is_file()]
    if not missing:
        log.info("%s: all of it is in %s already", name, folder)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            hold_folder(held, folder, f"{folder}: another process is fetching into this folder; wait for its end.")
            _require_room(missing, folder)
            for archive in missing:
                path = _fetch(name, archive, folder, policy or DownloadPolicy())
                unpack(path, folder, archive.below, archive.unpacked)
                _check_tree(name, archive, path, folder)
                write_atomically(_marker(archive, folder), f"{archive.url}\n".encode())
                path.unlink()
    except OSError as error:
        raise UserError(
            f"{name}: cannot write into {folder} ({error.strerror or error}); choose another --output."
        ) from None


def digest_of_tree(folder: Path, skip: frozenset[str] = frozenset()) -> str:
    """SHA-256 over the relative names and contents of all files below a folder, except hidden ones at its top."""
    lines = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".") and name not in skip:
            lines.append((name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(lines)).encode()).hexdigest()


def _marker(archive: Archive, folder: Path) -> Path:
    """A file that says that this archive's contents are in place."""
    return folder / f".{archive.name}.unpacked"


def _require_room(archives: list[Archive], folder: Path) -> None:
    needed = sum(archive.unpacked + archive.size for archive in archives)
    for archive in archives:
        for path in (partial_of(folder / archive.name), folder / archive.name):
            needed -= path.stat().st_size if path.is_file() else 0
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {needed / 1e9:.1f} GB are needed to fetch and unpack, {free / 1e9:.1f} GB are free; make room, "
            "or choose another --output."
        )


def _fetch(name: str, archive: Archive, folder: Path, policy: DownloadPolicy) -> Path:
    """The archive in `folder`, fetched unless somebody put it there, and checked."""
    target, url = folder / archive.name, address(archive.url)
    remedy = f"put the file at {target} by hand, or set DETECTOR_MIRROR to a server that has it"
    if target.is_file():
        log.info("%s: %s is there already; checking it", name, target)
        if (problem := _mismatch(archive, target)) is not None:
            raise UserError(f"{name}: {target} is {problem}; delete it to fetch it again.")
        return target
    if is_offline():
        raise UserError(f"{name}: DETECTOR_OFFLINE forbids fetching {url}; unset it, or {remedy}.")
    log.info("fetching %s (%.1f GB) into %s", url, archive.size / 1e9, folder)
    has_checksum = archive.md5 is not None
    try:
        download_checked(
            url, target, archive.name, policy, lambda path: _mismatch(archive, path), has_checksum, 2 * archive.size
        )
    except DownloadError as error:
        raise UserError(f"{name}: cannot fetch {url} ({error}); connect to the network, {remedy}.") from None
    return target


def _mismatch(archive: Archive, path: Path) -> str | None:
    """What is wrong with a downloaded archive, or None."""
    if archive.md5 is None:
        return None
    digest = file_digest(path, "md5")
    return None if digest == archive.md5 else f"another file: its MD5 is {digest} and should be {archive.md5}"


def _check_tree(name: str, archive: Archive, path: Path, folder: Path) -> None:
    if archive.tree is None:
        return
    digest = digest_of_tree(folder, skip=frozenset({archive.name}))
    if digest != archive.tree:
        path.unlink()
        raise UserError(
            f"{name}: the files in {folder} are not those of the data set (SHA-256 {digest[:12]}…, expected "
            f"{archive.tree[:12]}…); empty the folder and fetch again."
        )
