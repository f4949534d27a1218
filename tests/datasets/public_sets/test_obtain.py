"""Public data sets from a server on this machine: resumed, checked, unpacked once, and refused in one sentence."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from weights_server import Server, answer, cut_after, serving

from detector.datasets.public_sets import obtain as module
from detector.datasets.public_sets.addresses import SETS, Archive, PublicSet
from detector.datasets.public_sets.obtain import digest_of_tree, obtain
from detector.disk import hold_folder
from detector.download import DownloadPolicy
from detector.errors import UserError

QUICK = DownloadPolicy(timeout=2.0, attempts=2, backoff=0.0)
FILES = {"set-1/a/1.txt": b"one" * 1000, "set-1/a/2.txt": b"two", "set-1/lists/all.txt": b"1\n2\n", "README": b"no"}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def public_set(content: bytes, suffix: str = "zip") -> PublicSet:
    archive = Archive(
        url=f"https://example.invalid/files/set.{suffix}",
        size=len(content),
        unpacked=sum(map(len, FILES.values())),
        md5=hashlib.md5(content).hexdigest(),
        below="set-1/",
    )
    return PublicSet("set", (archive,), "a set", "free", "train")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DETECTOR_OFFLINE", raising=False)
    with serving(zipped(FILES)) as running:
        monkeypatch.setenv("DETECTOR_MIRROR", running.address)
        yield running


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_a_set_is_fetched_unpacked_and_then_left_alone(server: Server, tmp_path: Path, suffix: str) -> None:
    server.content = zipped(FILES) if suffix == "zip" else tarred(FILES)
    public = public_set(server.content, suffix)
    obtain("set", public, tmp_path / "new" / "set", QUICK)
    folder = tmp_path / "new" / "set"
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files.pop(f".set.{suffix}.unpacked")
    assert files == {name.removeprefix("set-1/"): content for name, content in FILES.items() if name != "README"}
    obtain("set", public, folder, QUICK)
    assert server.requests == [f"/files/set.{suffix}"]


def test_an_interrupted_fetch_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    public = public_set(server.content)
    server.script = [cut_after(100), answer(503), answer(503)]
    with pytest.raises(UserError, match=r"set: cannot fetch .*503"):
        obtain("set", public, tmp_path, QUICK)
    obtain("set", public, tmp_path, QUICK)
    assert server.ranges[-1] == "bytes=100-"
    assert (tmp_path / "a" / "2.txt").read_bytes() == b"two"


def test_two_do_not_fetch_into_one_folder(server: Server, tmp_path: Path) -> None:
    with ExitStack() as held:
        hold_folder(held, tmp_path, "")
        with pytest.raises(UserError, match="another process is fetching into this folder"):
            obtain("set", public_set(server.content), tmp_path, QUICK)
    assert not server.requests


def test_another_file_is_refused_and_not_unpacked(server: Server, tmp_path: Path) -> None:
    server.content = b"something else"
    public = public_set(zipped(FILES))
    with pytest.raises(UserError, match="served another file: its MD5 is"):
        obtain("set", public, tmp_path, QUICK)
    assert not list(tmp_path.iterdir())


def test_files_are_checked_where_the_archive_has_no_checksum(server: Server, tmp_path: Path) -> None:
    obtain("set", public_set(server.content), tmp_path / "right", QUICK)
    tree = digest_of_tree(tmp_path / "right")
    loose = replace(public_set(server.content).archives[0], md5=None, tree=tree)
    public = replace(public_set(server.content), archives=(loose,))
    obtain("set", public, tmp_path / "same", QUICK)
    server.content = zipped(FILES | {"set-1/a/2.txt": b"TWO"})
    with pytest.raises(UserError, match="not those of the data set"):
        obtain("set", public, tmp_path / "changed", QUICK)
    assert not (tmp_path / "changed" / ".set.zip.unpacked").exists()


@pytest.mark.parametrize("name", ["set-1/../../evil", "set-1//etc/evil", "set-1/a\\..\\evil", "set-1/c:evil"])
def test_names_that_leave_the_folder_are_refused(server: Server, tmp_path: Path, name: str) -> None:
    server.content = zipped(FILES | {name: b"x"})
    with pytest.raises(UserError, match="leaves its folder"):
        obtain("set", public_set(server.content), tmp_path / "a" / "b", QUICK)
    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_in_the_folder_leads_nowhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="through a link"):
        obtain("set", public_set(server.content), tmp_path / "set", QUICK)
    assert not list((tmp_path / "outside").iterdir())


def test_an_archive_that_unpacks_to_far_more_is_refused(server: Server, tmp_path: Path) -> None:
    server.content = zipped(FILES | {"set-1/big": bytes(100_000)})
    with pytest.raises(UserError, match="more than 2 times"):
        obtain("set", public_set(server.content), tmp_path, QUICK)
    assert not (tmp_path / "big").exists()


def test_offline_says_what_to_do_and_uses_what_was_put_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    public = public_set(server.content)
    with pytest.raises(UserError, match=r"DETECTOR_OFFLINE forbids .*put the file at .*set\.zip by hand"):
        obtain("set", public, tmp_path, QUICK)
    (tmp_path / "set.zip").write_bytes(server.content)
    obtain("set", public, tmp_path, QUICK)
    assert (tmp_path / "a" / "2.txt").read_bytes() == b"two"
    assert not server.requests


def test_room_is_asked_for_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(UserError, match="GB are free; make room"):
        obtain("set", public_set(server.content), tmp_path, QUICK)
    assert not server.requests


def test_there_is_a_checksum_for_everything() -> None:
    for public in SETS.values():
        for archive in public.archives:
            assert (archive.md5 is None) != (archive.tree is None)
            assert len(archive.md5 or "") in (0, 32)
            assert archive.size > 0 < archive.unpacked
