import errno
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from detector.disk import (
    append_line,
    file_digest,
    hold,
    put_in_place,
    remove_folder,
    sync_file,
    tells_damage,
    whole_folder,
    write_atomically,
)
from detector.errors import UserError

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Recorder:
    """Notes the order of the system's calls, of which one may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: int = -1) -> None:
        self.calls: list[tuple[str, str]] = []
        self._fail = fail
        self._opened: dict[int, str] = {}
        for name in ("fsync", "rename", "replace", "mkdir"):
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            of = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else str(args[-1])
            self.calls.append((name, of))
            if len(self.calls) - 1 == self._fail:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return stand_in


linux_only = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc to see what is synced")


def test_a_file_is_written_with_its_folder_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    for data in (b"first", b"second"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert names(path.parent) == ["b.txt"]


@linux_only
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    write_atomically(tmp_path / "file", b"content")
    (sync, partial), rename, last = [call for call in recorder.calls if call[0] != "mkdir"]
    assert (sync, Path(partial).parent) == ("fsync", tmp_path)
    assert Path(partial).name != "file"
    assert rename == ("replace", str(tmp_path / "file"))
    assert last == ("fsync", str(tmp_path))


@linux_only
def test_a_folder_is_on_the_disk_before_it_has_its_name_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    with whole_folder(tmp_path / "set") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_bytes(b"content")
    calls = [call for call in recorder.calls if call[0] != "mkdir"]
    assert {of for what, of in calls[:-2] if what == "fsync"} == {
        str(partial),
        str(partial / "inner"),
        str(partial / "inner" / "file"),
    }
    assert calls[-2:] == [("rename", str(tmp_path / "set")), ("fsync", str(tmp_path))]


@linux_only
@pytest.mark.parametrize(
    ("call", "name", "content"), [(1, "fsync", b"old"), (2, "replace", b"old"), (3, "fsync", b"new")]
)
def test_whichever_call_fails_the_file_is_whole_and_nothing_else_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, name: str, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    recorder = Recorder(monkeypatch, fail=call)
    with pytest.raises(UserError, match=r"file: cannot write the file \(No space left on device\)"):
        write_atomically(path, b"new")
    assert recorder.calls[call][0] == name
    assert path.read_bytes() == content  # once it is renamed, only the sync of its folder is left to fail
    assert names(tmp_path) == ["file"]


def test_a_folder_replaces_an_earlier_one_or_leaves_it_intact(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "set"
    for text in ("first", "second"):
        with whole_folder(folder) as partial:
            assert not list(partial.iterdir())
            (partial / text).touch()
        assert names(folder) == [text]
    with pytest.raises(FileNotFoundError), whole_folder(folder) as partial:
        (partial / "none" / "third").touch()
    assert names(folder) == ["second"]
    assert names(folder.parent) == ["set"]


def test_a_folder_that_is_deleted_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "file").touch()

    def killed(path: Path) -> None:
        assert not folder.exists()
        assert names(path) == ["file"]
        raise OSError(errno.EIO, "killed here")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(OSError, match="killed here"):
            remove_folder(folder)
    assert not folder.exists()


def test_a_file_that_was_written_elsewhere_is_synced_and_put_in_place(tmp_path: Path) -> None:
    (tmp_path / "partial").write_bytes(b"abc")
    sync_file(tmp_path / "partial")
    put_in_place(tmp_path / "partial", tmp_path / "whole")
    assert names(tmp_path) == ["whole"]
    assert file_digest(tmp_path / "whole") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "whole", "md5") == "900150983cd24fb0d6963f7d28e17f72"


def test_the_lock_excludes_and_is_released(tmp_path: Path) -> None:
    waits: list[int] = []
    order: list[str] = []

    def second() -> None:
        with hold(tmp_path / "lock", lambda: waits.append(1)):
            order.append("second")

    with hold(tmp_path / "lock", lambda: waits.append(0)):
        thread = threading.Thread(target=second)
        thread.start()
        while not waits:
            thread.join(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert waits == [1]


def refuse() -> None:
    raise UserError("held")


def test_who_does_not_wait_gives_up(tmp_path: Path) -> None:
    with hold(tmp_path / "lock", refuse), pytest.raises(UserError, match="held"), hold(tmp_path / "lock", refuse):
        pass
    with hold(tmp_path / "lock", refuse):
        pass


def _hold_and_fork(path: Path, connection: Connection) -> None:
    """Hold the lock, have a child that outlives us, and end without a word."""
    with hold(path, refuse):
        assert FORK is not None
        child = FORK.Process(target=time.sleep, args=(600,))
        child.start()
        connection.send(child.pid)
        connection.recv()
        os.kill(os.getpid(), 9)


@pytest.mark.skipif(FORK is None, reason="no fork on this system")
def test_a_killed_holder_lets_go_even_if_a_child_of_it_lives_on(tmp_path: Path) -> None:
    assert FORK is not None
    here, there = FORK.Pipe()
    holder = FORK.Process(target=_hold_and_fork, args=(tmp_path / "lock", there))
    holder.start()
    orphan = here.recv()
    with pytest.raises(UserError, match="held"), hold(tmp_path / "lock", refuse):
        pass
    here.send("go")
    holder.join()  # with a time limit it would wait for the orphan too
    try:
        os.kill(orphan, 0)  # it is there
        assert holder.exitcode == -9
        with hold(tmp_path / "lock", refuse):
            pass
    finally:
        os.kill(orphan, 9)


def test_a_line_is_added_behind_what_was_left_torn(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for line in (b"one", b"two"):
        append_line(log, line)
    with open(log, "ab") as file:
        file.write(b"thr")
    append_line(log, b"four")
    assert log.read_bytes() == b"one\ntwo\nthr\nfour\n"


def test_only_what_is_not_there_is_damage() -> None:
    codes = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)
    assert all(tells_damage(OSError(code, "")) for code in codes)
    assert not any(tells_damage(OSError(code, "")) for code in (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENOMEM))
