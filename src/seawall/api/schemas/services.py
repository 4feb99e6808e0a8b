# SPDX-License-Identifier: Apache-2.0
"""Services."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from seawall.api.schemas.common import AnswerModel, Envelope, Instant, KarborTime
from seawall.core.records import Service
from seawall.core.states import SERVICE_DOWN_AFTER


class ServiceUpdateBody(Envelope):
    """Bare, as Karbor has it: without a wrapping key."""

    status: Literal["enabled", "disabled"]
    disabled_reason: Annotated[str, Field(max_length=255)] | None = None


class ServiceView(AnswerModel):
    id: int
    binary: str
    host: str
    status: str
    state: str
    updated_at: KarborTime
    disabled_reason: str | None
    version: str
    started_at: Instant

    @classmethod
    def of(cls, service: Service, now: datetime) -> ServiceView:
        is_up = service.stopped_at is None and now - service.heartbeat_at < SERVICE_DOWN_AFTER
        return cls(
            id=service.id,
            binary=service.binary,
            host=service.host,
            status="enabled" if service.is_enabled else "disabled",
            state="up" if is_up else "down",
            updated_at=service.heartbeat_at,
            disabled_reason=service.disabled_reason,
            version=service.version,
            started_at=service.started_at,
        )


class ServiceAnswer(AnswerModel):
    service: ServiceView


class ServicesAnswer(AnswerModel):
    services: list[ServiceView]
