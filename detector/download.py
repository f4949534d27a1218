"""Download one file over HTTP into a partial file: resumed, retried with back-off, bounded in time and size.

`DETECTOR_OFFLINE=1` forbids the network, and `DETECTOR_MIRROR=https://host/prefix` takes the place of scheme and host
in every address.
"""

import gzip
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from detector.disk import put_in_place, sync_file
from detector.errors import UserError

log = logging.getLogger(__name__)

CHUNK = 2**18
MAX_BYTES = 8 * 2**30
# The server may be busy or restarting; all other 4xx answers stay as they are.
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
OFFLINE_WORDS = frozenset({"1", "true", "yes", "on"})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class DownloadError(Exception):
    """The file could not be fetched. The message is a clause for the user."""


class _TryAgainError(Exception):
    """This attempt failed in a way that another may not."""


class _SlowError(_TryAgainError):
    """The server sends so little that what has come is no progress."""


@dataclass(frozen=True)
class DownloadPolicy:
    """timeout: seconds without a byte after which a connection is given up. attempts: without any progress, in a row.
    backoff: seconds before the second attempt; doubles each time. slowest: bytes a second, over `timeout` seconds; a
    connection that gives less is given up, and what it gave is no progress."""

    timeout: float = 30.0
    attempts: int = 4
    backoff: float = 1.0
    slowest: float = 1000.0


def is_offline() -> bool:
    """Whether `DETECTOR_OFFLINE` forbids the network."""
    return os.environ.get("DETECTOR_OFFLINE", "").lower() in OFFLINE_WORDS


def address(url: str) -> str:
    """Where `url` is fetched from: itself, or the mirror's copy of its path. Raises UserError for an odd mirror."""
    mirror = os.environ.get("DETECTOR_MIRROR")
    if not mirror:
        return url
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
        raise UserError(f"DETECTOR_MIRROR={mirror}: give an address such as https://mirror.example/files.")
    return mirror.rstrip("/") + urlsplit(url).path


def download(
    url: str, partial: Path, name: str, policy: DownloadPolicy, verified_later: bool, max_bytes: int | None = None
) -> bool:
    """Fetch `url` into `partial`, going on where an earlier try stopped.

    Args:
        partial: kept when the download fails, and gone on with the next time. A file beside it remembers the version
            that the server sent (its ETag), so that parts of two versions are not joined.
        name: for the progress bar.
        verified_later: the caller knows a checksum, so going on is safe even where the server names no version.
        max_bytes: a longer file is refused; None: MAX_BYTES.

    Returns:
        Whether part of the bytes came from an earlier try, for which the caller's checksum has the last word.

    Raises:
        DownloadError: refused, or still failing after `policy.attempts`.
        OSError: the partial file cannot be written.
    """
    resumed = False
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            resumed |= _attempt(url, partial, name, policy, verified_later, max_bytes or MAX_BYTES)
            _version_file(partial).unlink(missing_ok=True)
            return resumed
        except _TryAgainError as error:
            progressed = partial.exists() and partial.stat().st_size > before and not isinstance(error, _SlowError)
            failures = 0 if progressed else failures + 1
            if failures >= policy.attempts:
                raise DownloadError(str(error)) from None
            pause = policy.backoff * 2 ** max(failures - 1, 0)
            log.warning("%s: %s; trying again in %.0f s", name, error, pause)
            time.sleep(pause)


def download_checked(
    url: str,
    target: Path,
    name: str,
    policy: DownloadPolicy,
    problem_of: Callable[[Path], str | None],
    verified_later: bool,
    max_bytes: int | None = None,
) -> None:
    """Fetch `url` as `target`, which is whole and right or not there.

    Args:
        target: until then the bytes are in a hidden file beside it, from which a later call goes on.
        problem_of: what is wrong with a fetched file, as the end of "it served …", or None.
        name, policy, verified_later, max_bytes: as of `download`.

    Raises:
        DownloadError: it could not be fetched, or is not right; then its bytes are gone.
        OSError: the folder cannot be written.
    """
    partial = partial_of(target)
    resumed = download(url, partial, name, policy, verified_later, max_bytes)
    problem = problem_of(partial)
    if problem is not None and resumed:
        # The file may have changed between the two halves.
        partial.unlink()
        download(url, partial, name, policy, True, max_bytes)
        problem = problem_of(partial)
    if problem is not None:
        partial.unlink()
        raise DownloadError(f"it served {problem}")
    sync_file(partial)
    put_in_place(partial, target)


def partial_of(target: Path) -> Path:
    """Where the bytes of a file are while `download_checked` fetches it."""
    return target.with_name(f".{target.name}.partial")


def _attempt(url: str, partial: Path, name: str, policy: DownloadPolicy, verified_later: bool, max_bytes: int) -> bool:
    """One connection. True if it went on with earlier bytes."""
    version_file = _version_file(partial)
    can_resume = partial.exists() and (verified_later or version_file.exists())
    offset = partial.stat().st_size if can_resume else 0
    headers = {"User-Agent": "detector", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if version_file.exists():
            headers["If-Range"] = version_file.read_text(encoding="utf-8")
    asked = _LastAddress()
    opener = urllib.request.build_opener(asked)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=policy.timeout) as response:
            start, total = _extent(response, offset)
            version = response.headers.get("ETag") or ""
            if version and not version.startswith("W/"):
                version_file.write_text(version, encoding="utf-8")
            else:
                version_file.unlink(missing_ok=True)
            with open(partial, "r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                received = _copy(response, file, name, start, total, max_bytes, policy)
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer too, on an open connection
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink(missing_ok=True)
            raise _TryAgainError("the server has fewer bytes than were fetched before") from None
        reason = f"the server answered {error.code} {error.reason}"
        if "infinite loop" in str(error.reason):  # urllib's words
            reason = "the server sends from one address to another without end"
        reason = asked.by_proxy(reason)
        raise (_TryAgainError(reason) if error.code in RETRIED_STATUSES else DownloadError(reason)) from None
    except urllib.error.URLError as error:
        raise _TryAgainError(asked.by_proxy(_reason(error.reason))) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _TryAgainError(asked.by_proxy(_reason(error))) from None
    except ValueError as error:
        raise DownloadError(asked.by_proxy(f"not an address: {error}")) from None
    if total is not None and received < total:
        raise _TryAgainError(f"the connection ended after {received} of {total} bytes")
    encoding = (response.headers.get("Content-Encoding") or "identity").lower()
    if encoding in ("gzip", "x-gzip") and not urlsplit(url).path.endswith((".gz", ".tgz")):
        _unzip(partial, max_bytes)
    elif encoding not in ("identity", "gzip", "x-gzip"):
        partial.unlink()
        raise DownloadError(f"the server sends it packed as {encoding}, which was not asked for")
    return start > 0


class _LastAddress(urllib.request.BaseHandler):
    """Notes where a request is sent, which after a redirection is another address, by another proxy perhaps."""

    url = ""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Note an address. (urllib calls this before each request.)"""
        self.url = request.full_url
        return request

    https_request = http_request

    def by_proxy(self, reason: str) -> str:
        """Why a request failed, with the proxy that it went by, which may be what failed, and who names that."""
        proxy = proxy_of(self.url)
        if proxy is None:
            return reason
        place, variable = proxy
        if not variable:
            return f"by the proxy {place} of the system's settings: {reason}"
        return f"by the proxy {place}, which {variable} names: {reason}; if it is at fault, correct or unset {variable}"


def proxy_of(url: str) -> tuple[str, str] | None:
    """The proxy that a request to this address goes by, and the variable that names it; None where it goes straight.

    The variable is empty where the system's settings name it. What logs in at the proxy is left out of its address.
    """
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return None
    named = (name for name, value in os.environ.items() if name.lower() == f"{parts.scheme}_proxy" and value == proxy)
    return proxy.rpartition("://")[2].rpartition("@")[2].rstrip("/"), next(named, "")


def _unzip(partial: Path, max_bytes: int) -> None:
    """Put what a file holds in its place: a server may compress what it sends, even to those that ask it not to.

    Raises:
        DownloadError: it is not whole, or longer than `max_bytes`.
    """
    unpacked = partial.with_name(f"{partial.name}.unpacked")
    try:
        with gzip.open(partial) as packed, open(unpacked, "wb") as file:
            while chunk := packed.read(CHUNK):
                file.write(chunk)
                if file.tell() > max_bytes:
                    raise DownloadError(f"it is longer than {max_bytes} bytes")
        os.replace(unpacked, partial)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        partial.unlink()
        raise DownloadError(f"the server sends it packed, and that is damaged: {_reason(error)}") from None
    finally:
        unpacked.unlink(missing_ok=True)


def _extent(response: Any, offset: int) -> tuple[int, int | None]:
    """Where the answer's bytes begin, and how long the whole file is if the server says so."""
    if response.status == http.client.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise DownloadError("the server answered with a part of the file that was not asked for")
        return offset, None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None and length.isdigit() else None  # the server ignored the range


def _copy(
    response: Any, file: IO[bytes], name: str, start: int, total: int | None, max_bytes: int, policy: DownloadPolicy
) -> int:
    """Write the answer's bytes with a progress bar; returns the position of the last one."""
    position = looked_at = start
    looked = time.monotonic()
    # disable=None: no bar where stderr is no terminal.
    with tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar:
        while chunk := _read(response):
            position += len(chunk)
            if position > max_bytes:
                raise DownloadError(f"it is longer than {max_bytes} bytes")
            file.write(chunk)
            file.flush()  # so that a kill loses nothing that was received
            bar.update(len(chunk))
            if (seconds := time.monotonic() - looked) >= policy.timeout:
                if position - looked_at < policy.slowest * seconds:
                    raise _SlowError(f"the server sent only {position - looked_at} bytes in {seconds:.0f} s")
                looked, looked_at = time.monotonic(), position
    return position


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read1(CHUNK)
    except OSError as error:  # of the network; the file is written elsewhere
        raise _TryAgainError(_reason(error)) from None
    return chunk


def _reason(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split("] ", 1)[-1]  # without "[Errno -2]"


def _version_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")
