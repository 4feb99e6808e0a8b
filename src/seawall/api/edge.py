# SPDX-License-Identifier: Apache-2.0
"""The outermost layer of the API: request ids, size limit, and the last handler.

Every answer carries its request id. What no other layer expected becomes a 500 that names only that id; the
log has the rest, once.
"""

from __future__ import annotations

import uuid

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall.api.faults import fault

BODY_LIMIT_BYTES = 1024 * 1024
# Headers of requests are small; a body this large is a mistake or an attack, never a plan.

_log = structlog.get_logger("seawall.api")


class Edge:
    """ASGI middleware; keeps no state between requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req-{uuid.uuid4()}"
        scope["seawall_request_id"] = request_id
        exchange = _Exchange(request_id, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except _TooLargeError:
            # Raised while the body was read, so nothing was answered and nothing was done yet.
            message = f"the body is larger than {BODY_LIMIT_BYTES} bytes"
            response = JSONResponse(fault(413, message, request_id=request_id), 413, {"Retry-After": "0"})
            await response(scope, receive, exchange.send)
        except Exception:  # noqa: BLE001 - the API's last handler: logged once, answered with its id
            _log.exception(
                "request failed unexpectedly",
                request_id=request_id,
                method=scope["method"],
                path=scope["path"],
            )
            if not exchange.has_started:
                message = f"an unexpected error; the server's log tells more under {request_id}"
                response = JSONResponse(fault(500, message, request_id=request_id), 500)
                await response(scope, receive, exchange.send)


class _TooLargeError(BaseException):
    """Passes through every ``except Exception`` on its way out to ``Edge``."""


class _Exchange:
    """The receive and send of one request."""

    def __init__(self, request_id: str, receive: Receive, send: Send) -> None:
        self._request_id = request_id.encode()
        self._receive = receive
        self._send = send
        self._read_bytes = 0
        self.has_started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read_bytes += len(message.get("body", b""))
            if self._read_bytes > BODY_LIMIT_BYTES:
                raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_started = True
            message["headers"] = [
                *message.get("headers", []),
                (b"x-compute-request-id", self._request_id),
                (b"x-openstack-request-id", self._request_id),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ]
        await self._send(message)
