# SPDX-License-Identifier: Apache-2.0
"""Field types that several collections share, and the rules of Karbor's values."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)

MAX_NAME = 255


class RequestModel(BaseModel):
    """A part of a request body: unknown keys are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Envelope(RequestModel):
    """A whole request body; ``api.documents`` has checked what it holds."""


class AnswerModel(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


def _check_name(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    if not value.isprintable():
        raise ValueError("must hold printable characters only")
    return value


def _check_description(value: str) -> str:
    if not all(character.isprintable() or character in "\n\t" for character in value):
        raise ValueError("must hold printable characters only")
    return value


_UUID = re.compile(r"\{?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?")


def _check_uuid(value: str) -> str:
    if not _UUID.fullmatch(value):
        raise ValueError("must be a UUID")
    return str(uuid.UUID(value))


def _check_map(value: dict[str, Any]) -> dict[str, Any]:
    for key in value:
        if not key or len(key) > 1024 or not key.isprintable():
            raise ValueError("must have keys of 1 to 1024 printable characters")
    return value


Name = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_check_name)]
Description = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_check_description)]
UuidText = Annotated[str, AfterValidator(_check_uuid), Field(json_schema_extra={"format": "uuid"})]
_MOMENT_RULE = "must be a time with its zone, e.g. 2026-03-01T02:00:00Z"
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _check_moment(value: Any) -> Any:
    # A bare number would be taken as seconds, or as milliseconds, since 1970, by its size.
    if not isinstance(value, str) or not _MOMENT.match(value):
        raise ValueError(_MOMENT_RULE)
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = None
    # Offsets are taken from it, for which there must be room.
    if moment is None or moment.year < 1970:
        raise ValueError("must lie in the years 1970 to 9999 of UTC")
    return moment


Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_check_moment), AfterValidator(_to_utc)
]
"""A time in a request; in UTC once it was read."""
Map = Annotated[dict[str, Any], AfterValidator(_check_map)]


def _karbor_time(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


KarborTime = Annotated[datetime, PlainSerializer(_karbor_time, return_type=str)]
"""UTC without a zone, as Karbor writes it: in keys that Karbor has."""
Instant = Annotated[datetime, PlainSerializer(_instant, return_type=str)]
"""RFC 3339 with its zone: in keys that are ours."""


class Link(AnswerModel):
    rel: str
    href: str


NextLink = Annotated[list[Link] | None, Field(exclude_if=lambda value: value is None)]
"""Where a list goes on; the key is absent at its end, as clients expect."""


def as_karbor_text(value: Any) -> Any:
    """Every leaf as text, as Karbor stores and echoes properties and definitions."""
    if isinstance(value, dict):
        return {key: as_karbor_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_karbor_text(inner) for inner in value]
    return value if value is None or isinstance(value, str) else str(value)
