# SPDX-License-Identifier: Apache-2.0
"""/metrics, for whoever watches this installation: an administrator's token, for it shows all projects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request

from seawall.api.asked import authenticate, ports_of
from seawall.api.metrics import exposition
from seawall.core.caller import Caller, Role
from seawall.core.errors import ForbiddenError

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response)
def show_metrics(request: Request, caller: Annotated[Caller, Depends(authenticate)]) -> Response:
    """How the installation stands, in the text format of Prometheus."""
    if not caller.is_admin and caller.role != Role.ADMIN:
        raise ForbiddenError("only an administrator sees how the whole installation stands")
    ports = ports_of(request)
    page = exposition(ports.figures.figures(), ports.services.list(), ports.monitor.status, ports.clock.now())
    return Response(page, media_type=CONTENT_TYPE_LATEST)
