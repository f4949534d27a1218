"""Downloads from a server that truncates, stalls, answers with errors, and serves other parts than asked for."""

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from weights_server import (
    Server,
    answer,
    cut_after,
    packed_as,
    redirect,
    redirect_to,
    serving,
    stall_after,
    trickle,
    without_length,
    without_ranges,
    wrong_part,
)

from detector import download as module
from detector.download import DownloadError, DownloadPolicy, download

CONTENT = bytes(range(256)) * 2000
QUICK = DownloadPolicy(timeout=0.3, attempts=3, backoff=0.0)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / "file.partial"


def get(server: Server, partial: Path, verified_later: bool = True) -> bool:
    return download(server.address + "/file", partial, "file", QUICK, verified_later)


def test_whole_file(server: Server, partial: Path) -> None:
    assert get(server, partial) is False
    assert partial.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert [p.name for p in partial.parent.iterdir()] == ["file.partial"]


def test_a_cut_connection_is_resumed_where_it_ended(server: Server, partial: Path) -> None:
    server.script = [cut_after(100_000), cut_after(50_000)]
    assert get(server, partial) is True
    assert partial.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_broken_download_is_resumed_by_the_next_process(server: Server, partial: Path) -> None:
    server.script = [cut_after(1000), answer(404)]
    with pytest.raises(DownloadError, match="404"):
        get(server, partial)
    assert partial.read_bytes() == CONTENT[:1000]
    assert get(server, partial) is True
    assert partial.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=1000-"


def test_progress_never_ends_the_attempts(server: Server, partial: Path) -> None:
    server.script = [cut_after(60_000)] * 8
    get(server, partial)
    assert partial.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(server: Server, partial: Path) -> None:
    partial.write_bytes(b"x" * 1000)
    server.script = [without_ranges]
    assert get(server, partial) is False
    assert server.ranges == ["bytes=1000-"]
    assert partial.read_bytes() == CONTENT


def test_another_version_is_not_joined_to_the_first(server: Server, partial: Path) -> None:
    server.script = [cut_after(1000), answer(404)]
    with pytest.raises(DownloadError):
        get(server, partial)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    assert get(server, partial) is False
    assert partial.read_bytes() == CONTENT[::-1]


def test_nothing_is_resumed_that_could_not_be_verified(server: Server, partial: Path) -> None:
    server.etag = None
    partial.write_bytes(b"x" * 1000)
    assert get(server, partial, verified_later=False) is False
    assert server.ranges == [None]
    assert partial.read_bytes() == CONTENT


def test_more_bytes_than_the_server_has(server: Server, partial: Path) -> None:
    partial.write_bytes(b"x" * (len(CONTENT) + 5))
    assert get(server, partial) is False
    assert server.ranges == [f"bytes={len(CONTENT) + 5}-", None]
    assert partial.read_bytes() == CONTENT


def test_another_part_than_asked_for_is_refused(server: Server, partial: Path) -> None:
    partial.write_bytes(CONTENT[:1000])
    server.script = [wrong_part]
    with pytest.raises(DownloadError, match="a part of the file that was not asked for"):
        get(server, partial)
    assert partial.read_bytes() == CONTENT[:1000]


def test_a_stalled_connection_is_given_up_and_resumed(server: Server, partial: Path) -> None:
    server.script = [stall_after(5000)]
    assert get(server, partial) is True
    assert partial.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-"]


def test_a_server_that_always_stalls_is_given_up(server: Server, partial: Path) -> None:
    server.script = [stall_after(0)] * 3
    with pytest.raises(DownloadError, match="timed out"):
        get(server, partial)
    assert len(server.requests) == 3


def test_a_server_that_trickles_is_given_up(server: Server, partial: Path) -> None:
    server.script = [trickle] * 9
    with pytest.raises(DownloadError, match=r"the server sent only \d+ bytes in "):
        get(server, partial)
    assert len(server.requests) == 3  # bytes that come so slowly are no progress
    server.script = [trickle]
    assert get(server, partial) is True  # what came is kept
    assert partial.read_bytes() == CONTENT


def by_proxies(monkeypatch: pytest.MonkeyPatch, **proxies: str) -> None:
    for name in ("no_proxy", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "HTTPS_PROXY"])
def test_a_dead_proxy_is_named(closed_port: int, partial: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    by_proxies(monkeypatch, **{variable: f"http://me:secret@127.0.0.1:{closed_port}/"})
    scheme = variable.partition("_")[0].lower()
    with pytest.raises(DownloadError) as refused:
        download(f"{scheme}://host.invalid/file", partial, "file", QUICK, True)
    assert str(refused.value) == (
        f"by the proxy 127.0.0.1:{closed_port}, which {variable} names: Connection refused; if it is at fault, correct "
        f"or unset {variable}"
    )


@pytest.mark.parametrize(("status", "reason"), [(407, "Proxy Authentication Required"), (403, "Forbidden")])
def test_a_proxy_that_refuses_is_named(
    server: Server, partial: Path, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    by_proxies(monkeypatch, http_proxy=server.address)
    server.script = [answer(status)] * 3
    with pytest.raises(DownloadError) as refused:
        download("http://host.invalid/file", partial, "file", QUICK, True)
    named = (
        f"by the proxy 127.0.0.1:{server.server_port}, which http_proxy names: the server answered {status} {reason}"
    )
    assert str(refused.value).startswith(named)


def test_the_proxy_of_the_address_that_failed_is_named(
    server: Server, closed_port: int, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_proxies(monkeypatch, https_proxy=f"127.0.0.1:{closed_port}")
    server.script = [redirect_to("https://host.invalid/file")] * 3
    with pytest.raises(DownloadError, match=f"by the proxy 127.0.0.1:{closed_port}, which https_proxy names"):
        get(server, partial)


def test_no_proxy_is_named_that_had_no_part(closed_port: int, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_proxies(monkeypatch, http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1")
    with pytest.raises(DownloadError, match=r"^Connection refused$"):
        download(f"http://127.0.0.1:{closed_port}/file", partial, "file", QUICK, True)


def test_what_is_sent_packed_is_unpacked(server: Server, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(CONTENT, mtime=0)
    server.script = [packed_as("gzip", packed, len(packed) // 2), packed_as("gzip", packed)]
    get(server, partial)
    assert partial.read_bytes() == CONTENT
    partial.unlink()
    server.script = [packed_as("gzip", packed)]
    download(f"{server.address}/set.tar.gz", partial, "set", QUICK, False)  # whose packing is the file's own
    assert partial.read_bytes() == packed
    for encoding, content in (("br", packed), ("gzip", packed[:-9]), ("gzip", b"no gzip")):
        partial.unlink(missing_ok=True)
        server.script = [packed_as(encoding, content)]
        with pytest.raises(DownloadError, match="the server sends it packed"):
            get(server, partial)
        assert not partial.exists()
    monkeypatch.setattr(module, "MAX_BYTES", len(CONTENT) - 1)
    server.script = [packed_as("gzip", packed)]
    with pytest.raises(DownloadError, match="longer than"):
        get(server, partial)


def test_a_circle_of_redirections(server: Server, partial: Path) -> None:
    server.script = [redirect] * 20
    with pytest.raises(DownloadError, match="from one address to another without end"):
        get(server, partial)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_server_errors_are_retried(server: Server, partial: Path, status: int) -> None:
    server.script = [answer(status), answer(status)]
    get(server, partial)
    assert partial.read_bytes() == CONTENT
    server.script = [answer(status)] * 3
    partial.unlink()
    with pytest.raises(DownloadError, match=f"the server answered {status}"):
        get(server, partial)
    assert not partial.exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_final_answers_are_not_retried(server: Server, partial: Path, status: int) -> None:
    server.script = [answer(status)]
    with pytest.raises(DownloadError, match=f"the server answered {status}"):
        get(server, partial)
    assert len(server.requests) == 1


def test_the_pause_doubles(server: Server, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.script = [answer(500)] * 4
    with pytest.raises(DownloadError):
        download(server.address, partial, "file", DownloadPolicy(attempts=4, backoff=0.5), True)
    assert pauses == [0.5, 1.0, 2.0]


def test_a_file_without_stated_length(server: Server, partial: Path) -> None:
    server.script = [without_length]
    get(server, partial)
    assert partial.read_bytes() == CONTENT


def test_an_endless_file_is_bounded(server: Server, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    with pytest.raises(DownloadError, match="longer than 100000 bytes"):
        get(server, partial)


def test_nobody_listens(partial: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match="Connection refused"):
        download(f"http://127.0.0.1:{port}/file", partial, "file", QUICK, True)


def test_what_is_no_address(partial: Path) -> None:
    with pytest.raises(DownloadError, match="not an address"):
        download("nonsense", partial, "file", QUICK, True)
