# SPDX-License-Identifier: Apache-2.0
"""Versions at / and /v1/, and health: what needs no token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from seawall.api.asked import ports_of
from seawall.api.faults import fault, request_id_of

Readiness = Callable[[], Sequence[str]]
"""Why requests cannot be served now, in words for whoever operates this; nothing when they can."""

router = APIRouter(tags=["discovery"])


def _version(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{request.base_url}v1/"}]
    return {"id": "v1.0", "status": "CURRENT", "links": links}


@router.get("/", status_code=300)
def list_versions(request: Request) -> dict[str, Any]:
    """The versions of this API."""
    return {"versions": [_version(request)]}


@router.get("/v1")
@router.get("/v1/", include_in_schema=False)
def show_version(request: Request) -> dict[str, Any]:
    """This version."""
    return {"version": _version(request)}


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/health/ready")
def ready(request: Request) -> Any:
    """Requests can be served; 503 says why not. The broker is told about, but does not decide by itself."""
    reasons = cast(Readiness, request.app.state.ready)()
    if not reasons:
        return {"status": "ready", "broker": ports_of(request).monitor.status.as_json()}
    message = f"not ready: {'; '.join(reasons)}"
    return JSONResponse(fault(503, message, request_id=request_id_of(request)), 503, {"Retry-After": "1"})
