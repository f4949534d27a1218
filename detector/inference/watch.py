"""Noticing that another process of several has gone, while each is busy with its share of the work."""

import os
import secrets
import selectors
import socket
import threading
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from detector.errors import UserError
from detector.process_group import from_main, gather, is_main, rank, world_size

# What becomes of a process, as processes tell each other; one that dies tells nothing.
_DONE, _STOPPED, _LOST_ONE = b"d", b"s", b"l"
_SECRET = 16  # bytes by which a process is known to the main one
_CONNECTING = 30.0  # seconds that may take


class Watch:
    """Tells a process that is busy with its share at once that another one has died or was stopped.

    Each process keeps a connection to the main one, which passes on what it learns. The system closes it when a process
    dies, and after a minute of silence where the other machine has lost its power or its network.

    A context that every process enters and leaves.

    Args:
        remedy: what the sentence about a lost process ends with.
    """

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy
        self._gone: list[tuple[bytes, int]] = []  # what became of other processes, the first first
        self._news = threading.Event()
        self._connections: dict[socket.socket, int] = {}  # with the process at the other end
        self._held = ExitStack()

    def check(self) -> None:
        """Raise UserError where another process has gone."""
        if self._gone:
            lost = [one for one in self._gone if one[0] == _LOST_ONE]
            what, other = (lost or self._gone)[0]
            became = f"process {other}, stopped by a signal"
            if what == _LOST_ONE:
                became = f"process {other}; its last lines say why, or it was killed, for its memory perhaps"
            raise UserError(f"process {rank()} has lost another process of this run ({became}). {self._remedy}")

    def __enter__(self) -> Self:
        if world_size() > 1:
            self._connect()
            leave, left = socket.socketpair()
            thread = threading.Thread(target=self._listen, args=(left,), name="watch", daemon=True)
            thread.start()
            self._held.callback(thread.join)
            self._held.callback(leave.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Say how this process leaves. Raises UserError where a signal ends it because another one was lost."""
        signalled = kind is not None and issubclass(kind, (SystemExit, KeyboardInterrupt))
        if kind is None or signalled:
            self._tell(_STOPPED if signalled else _DONE, rank())
        if kind is SystemExit and self._connections:
            self._news.wait(1)  # torchrun stops the others of one that has died
        self._held.close()
        self._close()
        if kind is SystemExit and any(what == _LOST_ONE for what, _ in self._gone):
            self.check()

    def _connect(self) -> None:
        """Connect every process with the main one; none where that does not work, and the next exchange tells."""
        with ExitStack() as opened:
            listener, offer = None, None
            if is_main():
                with suppress(OSError):
                    both = socket.has_dualstack_ipv6()
                    family = socket.AF_INET6 if both else socket.AF_INET
                    listener = socket.create_server(("", 0), family=family, dualstack_ipv6=both)
                    opened.enter_context(listener)
                    offer = (listener.getsockname()[1], secrets.token_bytes(_SECRET))
            offer = from_main(offer)
            if offer is not None:
                with suppress(OSError):
                    if listener is not None:
                        self._answer(listener, offer[1])
                    else:
                        self._call(*offer)
        if not all(gather(len(self._connections) == (world_size() - 1 if is_main() else 1))):
            self._close()
        for connection in self._connections:
            _look_after(connection)

    def _answer(self, listener: socket.socket, secret: bytes) -> None:
        """Take the connections of all others. Raises OSError."""
        listener.settimeout(_CONNECTING)
        while len(self._connections) < world_size() - 1:
            connection, _ = listener.accept()
            connection.settimeout(_CONNECTING)
            words = connection.recv(_SECRET + 4, socket.MSG_WAITALL)
            if words[:_SECRET] == secret:
                self._connections[connection] = int.from_bytes(words[_SECRET:])
            else:  # a stranger
                connection.close()

    def _call(self, port: int, secret: bytes) -> None:
        """Connect with the main process, whose machine torchrun names. Raises OSError."""
        connection = socket.create_connection((os.environ["MASTER_ADDR"], port), _CONNECTING)
        self._connections[connection] = 0
        connection.sendall(secret + rank().to_bytes(4))

    def _close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections = {}

    def _listen(self, left: socket.socket) -> None:
        """Take in what the others say, until the other end of `left` is closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(left, selectors.EVENT_READ)
            for connection in self._connections:
                selector.register(connection, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if left in ready:
                    left.close()
                    return
                for connection in [one for one in self._connections if one in ready]:
                    what, other = _heard(connection) or (_LOST_ONE, self._connections[connection])
                    if other == self._connections[connection]:
                        selector.unregister(connection)
                    if what != _DONE:
                        self._gone.append((what, other))
                        self._news.set()
                        if is_main():
                            self._tell(what, other)

    def _tell(self, what: bytes, about: int) -> None:
        for connection in self._connections:
            with suppress(OSError):  # it has gone before
                connection.sendall(what + about.to_bytes(4))


def _heard(connection: socket.socket) -> tuple[bytes, int] | None:
    """What became of which process; None where nothing can be heard any more."""
    try:
        words = connection.recv(5, socket.MSG_WAITALL)
    except OSError:
        return None
    return (words[:1], int.from_bytes(words[1:])) if len(words) == 5 else None


def _look_after(connection: socket.socket) -> None:
    """Have the system close a connection whose other end has been silent for about a minute."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
