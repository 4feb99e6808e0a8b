# SPDX-License-Identifier: Apache-2.0
"""CloudEvents 1.0 in structured mode: bytes of a message to an event, or the rule that they break. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from seawall.core.errors import InvalidInputError

LIMIT_BYTES = 256 * 1024
_LONGEST = 512
_OWN_SOURCE = "/seawall"
_OWN_TYPE = "io.seawall."


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """An event. Source and id together are unique."""

    source: str
    id: str
    type: str
    data: Any

    @property
    def event_id(self) -> str:
        """What a receipt keeps: a source holds no space, so no two events share it."""
        return f"{self.source} {self.id}"

    @property
    def is_own(self) -> bool:
        """Whether Seawall has sent it: what it says itself fires no message trigger, for that would have no
        end (operations wait for one another by triggers of their own)."""
        is_own_source = self.source == _OWN_SOURCE or self.source.startswith(f"{_OWN_SOURCE}/")
        return is_own_source or self.type.startswith(_OWN_TYPE)


def parse(body: bytes) -> CloudEvent:
    """``InvalidInputError`` names the field and the rule."""
    if len(body) > LIMIT_BYTES:
        raise InvalidInputError.of("body", f"{len(body)} bytes", f"must have at most {LIMIT_BYTES} bytes")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError.of("body", "(bytes)", f"must be JSON: {error.msg}") from error
    if not isinstance(found, dict):
        raise InvalidInputError.of("body", type(found).__name__, "must be a JSON object, a CloudEvent")
    if found.get("specversion") != "1.0":
        raise InvalidInputError.of("specversion", found.get("specversion"), "must be 1.0")
    return CloudEvent(
        source=_text(found, "source", may_have_spaces=False),
        id=_text(found, "id"),
        type=_text(found, "type"),
        data=found.get("data"),
    )


def _text(found: dict[str, Any], name: str, *, may_have_spaces: bool = True) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST or not value.isprintable():
        raise InvalidInputError.of(name, value, f"must be text of 1 to {_LONGEST} printable characters")
    if not may_have_spaces and " " in value:
        raise InvalidInputError.of(name, value, "must be a URI, which holds no spaces")
    return value
