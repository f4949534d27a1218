"""The cache of published weights: fetched once, verified at every use, offline, mirrored, by several processes."""

import hashlib
import multiprocessing
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from weights_server import Server, answer, cut_after, serve, serving, stall_after

from detector.download import DownloadPolicy, address
from detector.errors import UserError
from detector.weights.published.cache import cache_folder, fetch
from detector.weights.published.catalogue import Published

CONTENT = bytes(range(256)) * 500
QUICK = DownloadPolicy(timeout=0.5, attempts=2, backoff=0.0)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WITH_MD5 = Published("https://example.invalid/zoo/model_final.pkl", ("md5", MD5[:6]), "detectron2", 50, settings={})
WITH_SHA = Published("https://example.invalid/models/resnet.pth", ("sha256", SHA256[:8]), "torchvision", 18)
WITHOUT = Published("https://example.invalid/MSRA/R-50.pkl", None, "caffe2", 50)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "new" / "cache"
    monkeypatch.setenv("DETECTOR_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DETECTOR_OFFLINE", raising=False)
    monkeypatch.delenv("DETECTOR_MIRROR", raising=False)
    return folder


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    assert cache
    with serving(CONTENT) as running:
        monkeypatch.setenv("DETECTOR_MIRROR", running.address)
        yield running


@pytest.mark.parametrize("published", [WITH_MD5, WITH_SHA, WITHOUT])
def test_fetched_once_and_then_taken_from_the_cache(server: Server, cache: Path, published: Published) -> None:
    path = fetch("Name", published, QUICK)
    assert path == cache / ("Name.pth" if published is WITH_SHA else "Name.pkl")
    assert path.read_bytes() == CONTENT
    assert fetch("Name", published, QUICK) == path
    assert server.requests == [published.url.removeprefix("https://example.invalid")]
    assert path.with_name(path.name + ".sha256").read_text().strip() == SHA256
    assert not list(cache.glob("*.partial*"))


def test_the_mirror_takes_the_place_of_scheme_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://dl.example.org/zoo/a/model.pkl"
    monkeypatch.delenv("DETECTOR_MIRROR", raising=False)
    assert address(url) == url
    monkeypatch.setenv("DETECTOR_MIRROR", "http://mirror:8000/weights/")
    assert address(url) == "http://mirror:8000/weights/zoo/a/model.pkl"
    for odd in ("mirror", "ftp://mirror", "file:///etc", "http://"):
        monkeypatch.setenv("DETECTOR_MIRROR", odd)
        with pytest.raises(UserError, match=re.escape(f"DETECTOR_MIRROR={odd}: give an address")):
            address(url)


def test_the_folder_is_in_the_home_unless_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTOR_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/.cache/detector")


@pytest.mark.parametrize("published", [WITH_MD5, WITH_SHA])
def test_wrong_bytes_are_not_kept(server: Server, cache: Path, published: Published) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match=r"it served another file: its (md5|sha256) begins \w+ and should begin \w+"):
        fetch("Name", published, QUICK)
    assert [p.name for p in cache.iterdir() if "lock" not in p.name] == []
    server.content = CONTENT
    fetch("Name", published, QUICK)


@pytest.mark.parametrize("published", [WITH_MD5, WITHOUT])
def test_a_web_page_is_not_taken_for_weights(server: Server, cache: Path, published: Published) -> None:
    server.script = [answer(200, b"<!DOCTYPE html><html>Log in to the hotel's network</html>")]
    with pytest.raises(UserError, match="it served a web page"):
        fetch("Name", published, QUICK)
    assert [p.name for p in cache.iterdir() if "lock" not in p.name] == []


def test_two_halves_of_two_versions_are_fetched_again(server: Server, cache: Path) -> None:
    server.etag = None
    server.content = b"another version" * 1000
    server.script = [cut_after(5000), answer(404)]
    with pytest.raises(UserError, match="404"):
        fetch("Name", WITH_MD5, QUICK)
    assert (cache / ".Name.pkl.partial").stat().st_size == 5000
    server.content = CONTENT
    assert fetch("Name", WITH_MD5, QUICK).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-", "bytes=5000-", None]


@pytest.mark.parametrize("published", [WITH_MD5, WITHOUT])
def test_a_file_that_changed_in_the_cache_is_refused(server: Server, published: Published) -> None:
    path = fetch("Name", published, QUICK)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(UserError, match=r"changed since it was first used .* delete both files to fetch it again"):
        fetch("Name", published, QUICK)
    assert len(server.requests) == 1


def test_a_file_put_there_by_hand_is_used_and_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    cache.mkdir(parents=True)
    (cache / "Name.pkl").write_bytes(CONTENT)
    assert fetch("Name", WITH_MD5, QUICK) == cache / "Name.pkl"
    (cache / "Other.pkl").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"Other\.pkl is another file: its md5 begins .* delete it to fetch it again"):
        fetch("Other", WITH_MD5, QUICK)


def test_offline_says_where_from_where_to_and_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        fetch("Name", WITH_MD5, QUICK)
    text = str(caught.value)
    assert "DETECTOR_OFFLINE" in text
    assert WITH_MD5.url in text
    assert str(cache / "Name.pkl") in text
    assert "DETECTOR_MIRROR" in text
    assert not cache.exists()


def test_without_a_network_it_says_the_same(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch("Name", WITH_MD5, QUICK)
    text = str(caught.value)
    assert text.startswith(f"Name: cannot fetch {WITH_MD5.url} (")
    assert f"put the file at {cache / 'Name.pkl'} by hand" in text
    assert "\n" not in text


def test_a_folder_that_cannot_be_written(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set DETECTOR_CACHE to a folder with room"):
        fetch("Name", WITH_MD5, QUICK)


def test_a_killed_download_leaves_no_file_under_the_final_name(server: Server, cache: Path) -> None:
    server.script = [stall_after(10_000)]
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=fetch, args=("Name", WITH_MD5, DownloadPolicy(timeout=30)))
    process.start()
    partial = cache / ".Name.pkl.partial"
    for _ in range(1000):
        if partial.exists() and partial.stat().st_size == 10_000:
            break
        process.join(0.02)
    process.kill()
    process.join()
    assert partial.stat().st_size == 10_000
    assert not (cache / "Name.pkl").exists()
    assert fetch("Name", WITH_MD5, QUICK).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=10000-"]


def test_two_at_once_fetch_it_once(server: Server) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(handler: object) -> None:
        started.set()
        go_on.wait(60)
        serve(handler)  # type: ignore[arg-type]

    server.script = [slow]
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch("Name", WITH_MD5, QUICK_BUT_PATIENT))) for _ in "ab"]
    for thread in threads:
        thread.start()
    started.wait(60)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(paths) == 2
    assert len(server.requests) == 1


QUICK_BUT_PATIENT = DownloadPolicy(timeout=60, attempts=2, backoff=0.0)
