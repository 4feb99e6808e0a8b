# SPDX-License-Identifier: Apache-2.0
"""``ArchiveStream``: an archive as a response, in pieces, with nothing held but one of them.

Its length is not known before, so it goes in chunks; one that breaks off, for whatever reason, ends without
the last chunk and with a closed connection, which every client of HTTP takes for what it is. A client that
takes nothing for ``IDLE_S`` is cut off, and one that is gone ends the work at once.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

import anyio
import structlog
from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seawall.core.errors import SeawallError
from seawall.protection.downloads import IDLE_S, Download

_MAX_NAME: Final = 150
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]")

_log = structlog.get_logger("seawall.api")


class ArchiveStream(Response):
    """Sends a download, and closes it."""

    def __init__(self, download: Download, *, media_type: str) -> None:
        self._download = download
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"Content-Disposition": disposition(download.name), "Content-Type": media_type})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, receive, group.cancel_scope)
            try:
                await self._send(scope, send)
            finally:
                group.cancel_scope.cancel()

    async def _watch(self, receive: Receive, whole: anyio.CancelScope) -> None:
        """End the work when the client is gone, or the service stops."""
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._download.stop()
        whole.cancel()

    async def _send(self, scope: Scope, send: Send) -> None:
        sent = 0
        try:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(start)
            while (piece := await to_thread.run_sync(self._download.next)) is not None:
                with anyio.fail_after(IDLE_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent += len(piece)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (SeawallError, TimeoutError) as error:
            # Nothing is sent any more: the server sees an unfinished answer and closes the connection.
            _log.warning(
                "a download broke off",
                request_id=scope.get("seawall_request_id"),
                sent_bytes=sent,
                error=str(error) or f"the client took nothing for {IDLE_S:.0f} s",
            )
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._download.close)


def disposition(name: str) -> str:
    """A ``Content-Disposition`` (RFC 6266) whose name is one harmless file name on any system."""
    stem, _, kind = name.rpartition(".")
    clean = "".join(letter if letter.isprintable() and letter not in '/\\:*?"<>|' else "_" for letter in stem)
    whole = f"{clean.strip(' .')[:_MAX_NAME] or 'files'}.{kind}"
    return f"attachment; filename=\"{_ODD.sub('_', whole)}\"; filename*=UTF-8''{quote(whole, safe='')}"
