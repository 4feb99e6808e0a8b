# SPDX-License-Identifier: Apache-2.0
"""The application: its routes, its faults and its outermost layer, put together."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from seawall import __version__
from seawall.api import faults, policy
from seawall.api.edge import Edge
from seawall.api.ports import Ports
from seawall.api.routes import (
    checkpoints,
    discovery,
    files,
    metrics,
    plans,
    protectables,
    providers,
    restores,
    runs,
    scheduled_operations,
    services,
    triggers,
    webhooks,
)
from seawall.api.routes.discovery import Readiness
from seawall.core.errors import SeawallError

_COLLECTIONS = (
    plans.router,
    providers.router,
    checkpoints.router,
    files.router,
    protectables.router,
    triggers.router,
    scheduled_operations.router,
    runs.router,
    restores.router,
    services.router,
)


class _FieldMessage(BaseModel):
    field: str
    message: str


class _Fault(BaseModel):
    """The value of the one key of a fault; the key tells its kind, e.g. ``badRequest``."""

    code: int
    message: str
    errors: list[_FieldMessage] = []
    hint: str = ""
    error_code: str = ""
    request_id: str


def build_app(ports: Ports, *, ready: Readiness, version: str = __version__) -> FastAPI:
    """The API v1 over these services.

    ``ready`` is asked by /health/ready, in a thread: the reasons why nothing can be served now.
    """
    app = FastAPI(
        title="Seawall",
        summary="A self-running data-protection service; its API v1 speaks Karbor's shapes.",
        version=version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.ports = ports
    app.state.ready = ready
    app.add_middleware(Edge)
    app.add_exception_handler(SeawallError, faults.on_seawall_error)
    app.add_exception_handler(RequestValidationError, faults.on_validation_error)
    app.add_exception_handler(HTTPException, faults.on_http_error)
    app.include_router(discovery.router)
    app.include_router(metrics.router)
    refusals: dict[int | str, dict[str, Any]] = {
        "4XX": {"model": dict[str, _Fault], "description": "refused: one key, e.g. badRequest"},
    }
    for collection in _COLLECTIONS:
        app.include_router(collection, prefix="/v1/{project_id}", responses=refusals)
    app.include_router(webhooks.router, prefix="/v1/{project_id}", responses=refusals)
    policy.check_complete(
        route.name for one in _COLLECTIONS for route in one.routes if hasattr(route, "name")
    )
    return app
