"""A small detector behind `faster-rcnn serve`, in a process of its own, and clients for it."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from tiny_models import random_batch, tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.weights.files import save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "dog"), Category(90, "<b>猫</b>")))
ROOT = Path(__file__).resolve().parents[2]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture in which the small detector sees many objects, [H, W, 3] uint8."""
    return random_batch([(height, width)], seed).pixels[0].permute(1, 2, 0).numpy().copy()


def save_tiny_weights(path: Path, **inputs: Any) -> None:
    """The small detector's weights; `inputs` are settings of its input."""
    config = tiny_config(inputs={"min_size_test": 96, "max_size_test": 160} | inputs)
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})


class Client:
    """Asks a server on this machine, at `port`."""

    port = 0

    @property
    def address(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, chunked: bool = False
    ) -> tuple[int, Any, dict[str, str]]:
        """The code, the body (of JSON its value) and the headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it answers before all is sent
                connection.request(method, path, body, headers or {}, encode_chunked=chunked)
            response = connection.getresponse()
            data = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(data) if is_json else data.decode(), dict(response.getheaders())
        finally:
            connection.close()


class TinyServer(Client):
    """A server that listens when the context is entered, and is ended by SIGTERM when it is left.

    Args:
        folder: for its weights and its log.
        words: more of the command line.
        inputs: settings of the network's input.
    """

    def __init__(self, folder: Path, words: Iterable[str] = (), **inputs: Any) -> None:
        save_tiny_weights(folder / "tiny.safetensors", **inputs)
        self._log = folder / "serve.log"
        command = [sys.executable, "-m", "detector", "serve", "--weights", str(folder / "tiny.safetensors")]
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--device", "cpu", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def __enter__(self) -> Self:
        end = time.monotonic() + 120
        while "listening  http" not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)
        self.port = int(self.log().split("listening  http://127.0.0.1:")[1].split()[0])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def memory(self) -> int:
        """The most bytes that it has held so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
