# SPDX-License-Identifier: Apache-2.0
"""An HTTP server between a client and a server, that fails as planned.

    with FaultProxy("127.0.0.1", 36480) as proxy:
        proxy.plan("lost", method="PUT", times=2)

* ``error``: 503, and the server never hears of it.
* ``cut``: the connection ends, and the server never hears of it.
* ``lost``: the server does it, and the client never hears of it (a lost acknowledgement).
* ``half``: the client gets the first half of the answer's body.
* ``slow``: no answer until the proxy ends: the client's own timeout has to end it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

FaultKind = Literal["error", "cut", "lost", "half", "slow"]
# These are about one connection, not about the message.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(slots=True)
class _Planned:
    kind: FaultKind
    method: str
    part: str
    left: int


class FaultProxy:
    """Listens on a free port of this host. ``seen`` has (method, path, fault or "") of every request."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.seen: list[tuple[str, str, str]] = []
        self.ended = threading.Event()
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="fault proxy")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def plan(self, kind: FaultKind, *, method: str = "", part: str = "", times: int = 1) -> None:
        """Let the next ``times`` requests of this method, with ``part`` in their path, fail."""
        with self._lock:
            self._planned.append(_Planned(kind, method, part, times))

    def next_fault(self, method: str, path: str) -> FaultKind | Literal[""]:
        with self._lock:
            for one in self._planned:
                if one.left and one.method in ("", method) and one.part in path:
                    one.left -= 1
                    self.seen.append((method, path, one.kind))
                    return one.kind
            self.seen.append((method, path, ""))
            return ""

    def count(self, method: str, fault: str | None = None) -> int:
        """How many requests of this method there were; with ``fault`` those that had it."""
        with self._lock:
            return sum(1 for one in self.seen if one[0] == method and fault in (None, one[2]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    owner: FaultProxy
    protocol_version = "HTTP/1.1"
    # A client that goes away must not keep the thread of its connection for long.
    timeout = 30

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        fault = self.owner.next_fault(self.command, self.path)
        if fault == "slow":
            self.owner.ended.wait()
            self._cut()
        elif fault == "cut":
            self._cut()
        elif fault == "error":
            self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
        else:
            status, headers, content = self._forward(body)
            if fault == "lost":
                self._cut()
            else:
                self._answer(status, headers, content, half=fault == "half")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(*self.owner.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "content-length"):
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            headers = [(name, value) for name, value in answer.getheaders()]
            return answer.status, headers, content
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False
    ) -> None:
        given = {name.lower(): value for name, value in headers}
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        # The answer to HEAD says how long the object is and has no body.
        length = given.get("content-length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client was faster
            self.connection.shutdown(socket.SHUT_RDWR)
