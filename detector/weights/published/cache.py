"""The cache folder of published weights: fetched once whatever happens, verified at every use.

`DETECTOR_CACHE` moves the folder (default `~/.cache/detector`), `DETECTOR_OFFLINE=1` forbids the network, and
`DETECTOR_MIRROR=https://host/prefix` takes the place of scheme and host in every address.
"""

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from detector.disk import file_digest, hold, write_atomically
from detector.download import DownloadError, DownloadPolicy, address, download_checked, is_offline
from detector.errors import UserError
from detector.weights.published.catalogue import Published
from detector.weights.untrusted.unpickle import is_html

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where published weights are kept."""
    return Path(os.environ.get("DETECTOR_CACHE") or "~/.cache/detector").expanduser()


def cached_path(name: str, published: Published) -> Path:
    """Where the file of a published name is kept once it is fetched."""
    return cache_folder() / (name + Path(urlsplit(published.url).path).suffix)


def fetch(name: str, published: Published, policy: DownloadPolicy | None = None) -> Path:
    """The path of a published file in the cache folder, downloaded if it is not there yet, and verified.

    Several processes at once download it once. What was put into the folder by hand is used, after the same check.

    Raises:
        UserError: one sentence: no network (with the address, the place, and what to do), or a wrong checksum.
    """
    folder = cache_folder()
    target = cached_path(name, published)
    if not target.is_file():
        url = address(published.url)
        remedy = f"put the file at {target} by hand, or set DETECTOR_MIRROR to a server that has it"
        if is_offline():
            raise UserError(
                f"{name}: not in the cache, and DETECTOR_OFFLINE forbids fetching {url}; unset it, or {remedy}."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with hold(folder / f".{target.name}.lock", lambda: log.info("waiting for another download of %s", name)):
                if not target.is_file():
                    _download(name, published, url, target, policy or DownloadPolicy())
        except DownloadError as error:
            raise UserError(f"{name}: cannot fetch {url} ({error}); connect to the network, {remedy}.") from None
        except OSError as error:
            raise UserError(
                f"{name}: cannot write into {folder} ({error.strerror or error}); "
                "set DETECTOR_CACHE to a folder with room."
            ) from None
    _verify(name, published, target)
    return target


def _download(name: str, published: Published, url: str, target: Path, policy: DownloadPolicy) -> None:
    size = f", about {published.megabytes:.0f} MB" if published.megabytes else ""
    log.info("fetching %s from %s%s into %s", name, url, size, target.parent)
    has_checksum = published.checksum is not None
    download_checked(url, target, name, policy, lambda path: _problem(published, path), verified_later=has_checksum)


def _problem(published: Published, path: Path) -> str | None:
    """What is wrong with a fresh download, and whether it is a web page; or None."""
    problem = _mismatch(published, path)
    return f"a web page, {problem}" if problem is not None and is_html(path.read_bytes()[:512]) else problem


def _mismatch(published: Published, path: Path) -> str | None:
    """What is wrong with a fresh download, by the checksum that its authors publish, or None."""
    if published.checksum is None:
        return "and no weights" if is_html(path.read_bytes()[:512]) else None
    algorithm, prefix = published.checksum
    digest = file_digest(path, algorithm)
    if digest.startswith(prefix):
        return None
    return f"another file: its {algorithm} begins {digest[: len(prefix)]} and should begin {prefix}"


def _verify(name: str, published: Published, target: Path) -> None:
    """Hold a cached file to the SHA-256 recorded at its first use; at first use, to the published checksum."""
    record = target.with_name(f"{target.name}.sha256")
    digest = file_digest(target)
    if record.is_file():
        recorded = record.read_text(encoding="ascii", errors="replace").strip()
        if digest != recorded:
            raise UserError(
                f"{name}: {target} changed since it was first used (sha256 {digest[:12]}…, recorded {recorded[:12]}…); "
                "delete both files to fetch it again."
            )
        return
    problem = _mismatch(published, target)
    if problem is not None:
        raise UserError(f"{name}: {target} is {problem}; delete it to fetch it again.")
    write_atomically(record, f"{digest}\n".encode())
