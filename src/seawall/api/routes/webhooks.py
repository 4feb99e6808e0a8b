# SPDX-License-Identifier: Apache-2.0
"""Signed requests that fire triggers: the one collection that needs no token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from seawall.api.asked import ports_of
from seawall.api.schemas.triggers import FiredAnswer
from seawall.core.errors import InvalidInputError
from seawall.operation_engine.events.signatures import is_key
from seawall.operation_engine.events.webhooks import SignedRequest

BODY_LIMIT_BYTES = 64 * 1024

router = APIRouter(prefix="/triggers", tags=["triggers"])


async def signed_body(request: Request) -> bytes:
    """The body, never more of it than a webhook may have: whoever sends it is not known yet."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > BODY_LIMIT_BYTES:
            raise HTTPException(413, f"the body is larger than {BODY_LIMIT_BYTES} bytes")
    return bytes(found)


@router.post("/{trigger_id}/fire", status_code=202)
async def fire_trigger(
    request: Request,
    project_id: Annotated[str, Path(max_length=64)],
    trigger_id: Annotated[str, Path(max_length=64)],
    body: Annotated[bytes, Depends(signed_body)],
    seawall_signature: Annotated[str, Header(max_length=256)] = "",
    seawall_timestamp: Annotated[str, Header(max_length=32)] = "",
    idempotency_key: Annotated[str, Header(max_length=255)] = "",
) -> FiredAnswer:
    """Fire a webhook trigger. The signature stands in place of a token; see docs/events.md."""
    if idempotency_key and not is_key(idempotency_key):
        rule = "must have 1 to 255 printable ASCII characters and no spaces"
        raise InvalidInputError.of("Idempotency-Key", idempotency_key, rule)
    signed = SignedRequest(
        project_id, trigger_id, seawall_signature, seawall_timestamp, idempotency_key, body
    )
    fired = await run_in_threadpool(ports_of(request).webhooks.fire, signed)
    return FiredAnswer(fired=fired.fresh > 0, runs=fired.runs)
