"""Files and folders that are whole or not there, and locks that only one process holds at a time.

Everything that this package leaves on a disk and that somebody may read later goes through here: it is written beside
its place, forced onto the disk, and renamed. A kill, a full disk or a lost machine leaves the earlier content or the
new one, never a part. (Logs that grow line by line are the exception: their readers leave out an unfinished last line.)
"""

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from detector.errors import UserError

POLL_SECONDS = 0.2  # seconds between two looks at a lock that another process holds


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, in place of an earlier one; its folder is made where it is missing.

    Raises:
        UserError: no room, no permission; the earlier file is intact.
    """
    partial = _beside(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_synced(partial, data)
            put_in_place(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot write the file ({error.strerror or error}); the old one is intact.") from None


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path`, to be filled inside; at the end it gets that name.

    An earlier folder at `path` is replaced, and intact if the block raises. Parent folders are made where missing.

    Raises:
        OSError: from the block, or no room, no permission.
    """
    partial = _beside(path, "partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had our number
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_tree(partial)
        if path.exists():
            remove_folder(path)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Delete a folder with all that it holds; a kill in between leaves no part of it under its name.

    Raises:
        OSError: it cannot be deleted.
    """
    doomed = _beside(path, "deleted")
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def put_in_place(partial: Path, path: Path) -> None:
    """Give a finished file its final name, in place of an earlier file. Its content must be on the disk already.

    Raises:
        OSError: the rename failed; `path` is as it was.
    """
    os.replace(partial, path)
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that has no reader yet, and force its content onto the disk. Raises OSError."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Force the content of a file that was written before onto the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Force the names inside a folder onto the disk: without it a rename may be undone by a power cut. Raises OSError.

    Windows cannot open folders, and renames there need no help.
    """
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file's content, by a name that `hashlib` knows. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


@contextmanager
def hold(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file, which is made and stays there; no other process (or thread) is inside meanwhile.

    The lock belongs to the process, not to those that it forks, and the system releases it however the process ends.

    Args:
        path: in a folder that exists.
        on_wait: called once if another holds the lock, before waiting for it; it may raise instead of waiting.

    Raises:
        OSError: the file cannot be opened, or its file system has no locks.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        lock.acquire(poll_interval=POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def hold_folder(held: ExitStack, folder: Path, busy: str) -> None:
    """Hold the lock of a folder itself, in which no file is left, until `held` is closed or the process ends.

    Where the system has no such locks (Windows, some network file systems) nothing is held.

    Raises:
        UserError: another process holds it; the message is `busy`.
        OSError: the folder cannot be opened.
    """
    if sys.platform == "win32":
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(busy) from None
    except OSError:
        return


def tells_damage(error: OSError) -> bool:
    """Whether what the system says of a file that is read means that its content is not there (any more).

    All else, a missing permission or too many open files say, is about who reads it and when: the file may be whole.
    """
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)


def append_line(path: Path, line: bytes) -> None:
    """Add a line, without its end, to a file of lines, which is made where it is missing.

    What a full disk or a kill has left torn at the end of the file stays a line of its own. Raises OSError.
    """
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")


def half_written(path: Path) -> list[Path]:
    """What killed processes left of their `write_atomically` to this path. Call it where no process writes there."""
    if not path.parent.is_dir():
        return []
    pattern = re.compile(re.escape(f".{path.name}.") + r"\d+\.partial")
    return [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]


def half_written_in(folder: Path) -> list[Path]:
    """The same for every path in a folder, but not in those within it."""
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if re.fullmatch(r"\..+\.\d+\.partial", entry.name)]


def _beside(path: Path, what: str) -> Path:
    """A hidden name in the same folder, this process's own."""
    return path.with_name(f".{path.name}.{os.getpid()}.{what}")


def _sync_tree(folder: Path) -> None:
    for inner, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(inner, name))
        sync_folder(Path(inner))
