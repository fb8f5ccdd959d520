"""A proxy on loopback that can hold up what goes through it, as a network that fails may."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

_PIECE = 65536  # bytes


class Proxy:
    """Passes on what comes to its port, to another port of this machine; a context manager.

    Args:
      port: where to.

    Attributes:
      port: its own.
      flows: an event; while it is cleared nothing goes through, in either direction, and nothing
        is lost.
    """

    def __init__(self, port: int):
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.flows = threading.Event()
        self.flows.set()
        self._open: list[socket.socket] = [self._server]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.flows.set()
        for one in self._open:
            _shut(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self.flows.wait()
        try:
            target = socket.create_connection(("127.0.0.1", self._to), 5)
        except OSError:  # nobody is there yet, or any more
            client.close()
            return
        target.settimeout(None)
        self._open += [client, target]
        for ends in ((client, target), (target, client)):
            threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                self.flows.wait()
                sink.sendall(piece)
        for one in (source, sink):
            _shut(one)


def _shut(one: Any) -> None:
    """Ends both directions, which wakes the thread that reads."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
