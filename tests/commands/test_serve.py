"""The command `serve`: its refusals, and as a process of its own: signals and memory."""

import importlib.util
import io
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.commands.main import main
from detector.commands.serve import listen
from detector.errors import UserError


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"fastapi", "python_multipart"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    with pytest.raises(UserError, match=r"serving needs uvicorn.*run `pip install 'faster-rcnn\[serve\]'`"):
        main(["serve"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeout", "0"], "--timeout 0: choose more than 0 seconds"),
        (["--max-megabytes", "nan"], "--max-megabytes nan: choose more than 0"),
        (["--port", "70000"], "--port 70000: choose at most 65535"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_refusals(words: list[str], message: str) -> None:
    pytest.importorskip("fastapi", reason="serving is not installed: pip install 'faster-rcnn[serve]'")
    with pytest.raises(UserError, match=message):
        main(["serve", *words])


def test_a_port_that_is_taken_and_an_address_that_is_not_ours() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}: cannot be listened on .*choose another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match=r"192\.0\.2\.1:0: cannot be listened on"):
        listen("192.0.2.1", 0)
    for host in ("a..b", "x" * 300):
        with pytest.raises(UserError, match=rf"--host {host}: .*; choose an address of this machine"):
            listen(host, 0)
    with listen("127.0.0.1", 0) as listening:
        assert listening.getsockname()[1] > 0


def jpeg(height: int, width: int, seed: int) -> bytes:
    from servers import noise

    stream = io.BytesIO()
    Image.fromarray(noise(height, width, seed)).save(stream, "jpeg")
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_has_begun_finish(tmp_path: Path, number: int) -> None:
    pytest.importorskip("fastapi", reason="serving is not installed: pip install 'faster-rcnn[serve]'")
    from servers import TinyServer

    bodies = [jpeg(600, 800, seed) for seed in range(6)]
    with TinyServer(tmp_path, min_size_test=600, max_size_test=800) as server, ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(server.ask, "POST", "/v1/detect", body) for body in bodies]
        end = time.monotonic() + 30
        while "detector_open_requests 6" not in server.ask("GET", "/metrics")[1] and time.monotonic() < end:
            time.sleep(0.005)
            if all(one.done() for one in answers):
                answers = [pool.submit(server.ask, "POST", "/v1/detect", body) for body in bodies]
        server.process.send_signal(number)
        assert [one.result(60)[0] for one in answers] == [200] * 6
        assert server.process.wait(60) == 128 + number
        assert "Traceback" not in server.log()


@pytest.mark.slow
def test_large_and_broken_bodies_leave_memory_flat(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="serving is not installed: pip install 'faster-rcnn[serve]'")
    from servers import TinyServer

    def gigabyte() -> Iterator[bytes]:
        return (bytes(1_000_000) for _ in range(1000))

    picture = jpeg(480, 640, 0)
    with TinyServer(tmp_path) as server:
        for _ in range(3):
            assert server.ask("POST", "/v1/detect", picture)[0] == 200
        before = server.memory()
        hostile: list[tuple[Any, dict[str, str], bool]] = [
            (gigabyte(), {"Transfer-Encoding": "chunked"}, True),
            (b"", {}, False),
            (picture[:-200], {}, False),
        ]
        codes = [server.ask("POST", "/v1/detect", *one)[0] for one in hostile]
        assert codes == [413, 422, 422]
        for _ in range(40):
            assert server.ask("POST", "/v1/detect", bytes(19_000_000))[0] == 422
        assert server.memory() < before + 80_000_000  # a body or two, of forty
        assert server.ask("POST", "/v1/detect", picture)[0] == 200
