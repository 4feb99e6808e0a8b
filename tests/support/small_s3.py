# SPDX-License-Identifier: Apache-2.0
"""A small S3 of this process, for faults that are tested on every machine. It checks no signature: what only
a real server can prove is proven with one (``s3_server``)."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE = 1000


class SmallS3:
    """Objects in memory, in one bucket."""

    bucket = "small"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """With ``tls`` it speaks that alone."""
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        store = self

        class Handler(_Handler):
            owner = store

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            # The handshake is left to the thread of the connection: one that fails must not end the server.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, name="small s3")

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: SmallS3
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def handle(self) -> None:
        try:
            super().handle()
        except (ssl.SSLError, ConnectionError):
            return  # a client that does not trust us goes away

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path.removeprefix(f"/{self.owner.bucket}").lstrip("/"))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with self.owner.lock:
            is_refused = self.headers.get("If-None-Match") == "*" and self._key in self.owner.objects
            if not is_refused:
                self.owner.objects[self._key] = content
        self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>") if is_refused else self._answer(
            200
        )

    def do_DELETE(self) -> None:
        with self.owner.lock:
            self.owner.objects.pop(self._key, None)
        self._answer(204)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self._key:
            self._list()
            return
        with self.owner.lock:
            content = self.owner.objects.get(self._key)
        if content is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        asked = self.headers.get("Range")
        if asked is None:
            self._answer(200, content)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(content)), len(content) - 1)
        if begin >= len(content):
            self._answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        else:
            self._answer(206, content[begin : end + 1], f"bytes {begin}-{end}/{len(content)}")

    def _list(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        begin = query.get("continuation-token", query.get("start-after", ""))
        with self.owner.lock:
            found = sorted(
                (key, len(content))
                for key, content in self.owner.objects.items()
                if key.startswith(query.get("prefix", "")) and key > begin
            )
        page, more = found[:_PAGE], len(found) > _PAGE
        token = f"<NextContinuationToken>{escape(page[-1][0])}</NextContinuationToken>" if more else ""
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, size in page
        )
        flag = str(more).lower()
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>{flag}</IsTruncated>{token}{rows}</ListBucketResult>".encode(),
        )

    def _answer(self, status: int, content: bytes = b"", span: str | None = None) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if span is not None:
            self.send_header("Content-Range", span)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
