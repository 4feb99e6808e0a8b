# SPDX-License-Identifier: Apache-2.0
"""What an event trigger listens to: its properties, checked whole. Pure; ids are looked up by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from seawall.core.errors import FieldFault, InvalidInputError
from seawall.core.records import Json
from seawall.core.states import RunState
from seawall.operation_engine.events import matching

SOURCES = ("webhook", "amqp", "operation")
DEFAULT_WINDOW_S = 1800
_WINDOW_LIMITS = (0, 366 * 86_400)
# How a run of the other operation may have ended. One that a newer one has replaced has not: that one will.
STATES = (
    RunState.SUCCESS.value,
    RunState.FAILED.value,
    RunState.CANCELLED.value,
    RunState.DROPPED_OUT_OF_WINDOW.value,
)
_KNOWN = {
    "webhook": ("source", "window"),
    "amqp": ("source", "window", "routing_key", "filter"),
    "operation": ("source", "window", "operation_id", "states"),
}
_MOST_CONDITIONS = 32


@dataclass(frozen=True, slots=True)
class EventProperties:
    """What a trigger listens to."""

    source: str
    window_s: int
    """How late the first start may be after the event."""
    operation_id: str | None
    normalised: Json
    """As stored and shown, with every default written out."""


def parse_event_properties(given: Mapping[str, Any]) -> EventProperties:
    """``InvalidInputError`` names each wrong field, its value and the rule."""
    source = given.get("source")
    if source not in SOURCES:
        raise InvalidInputError.of("properties.source", source, f"must be one of {', '.join(SOURCES)}")
    known = _KNOWN[source]
    faults = [
        FieldFault(f"properties.{name}", value, f"is not known; known are {', '.join(known)}")
        for name, value in given.items()
        if name not in known
    ]
    window_s = _window(given.get("window"), faults)
    found: Json = {"source": source, "window": window_s}
    if source == "amqp":
        found["routing_key"] = _routing_key(given.get("routing_key"), faults)
        found["filter"] = _filter(given.get("filter"), faults)
    elif source == "operation":
        found["operation_id"] = _operation_id(given.get("operation_id"), faults)
        found["states"] = _states(given.get("states"), faults)
    if faults:
        raise InvalidInputError(faults)
    return EventProperties(source, window_s, found.get("operation_id"), found)


def _window(value: Any, faults: list[FieldFault]) -> int:
    if value is None:
        return DEFAULT_WINDOW_S
    least, most = _WINDOW_LIMITS
    # Karbor's clients send numbers as text.
    text = value if isinstance(value, str) and value.isascii() and value.isdigit() else None
    number = int(text) if text is not None and len(text) <= 10 else value
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        faults.append(
            FieldFault("properties.window", value, f"must be a whole number from {least} to {most}")
        )
        return DEFAULT_WINDOW_S
    return number


def _routing_key(value: Any, faults: list[FieldFault]) -> str:
    rule = matching.fault_of_pattern(value)
    if rule is not None:
        faults.append(FieldFault("properties.routing_key", value, rule))
        return ""
    return str(value)


def _filter(value: Any, faults: list[FieldFault]) -> Json:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > _MOST_CONDITIONS:
        shape = f"must be an object of at most {_MOST_CONDITIONS} path: value"
        faults.append(FieldFault("properties.filter", value, shape))
        return {}
    for path, wanted in value.items():
        rule = matching.fault_of_path(path)
        if rule is not None:
            faults.append(FieldFault("properties.filter", path, rule))
        if not matching.is_comparable(wanted):
            kinds = "must be text of at most 1024 characters, a number, true, false or null"
            faults.append(FieldFault(f"properties.filter.{path}", wanted, kinds))
    return dict(value)


def _operation_id(value: Any, faults: list[FieldFault]) -> str:
    try:
        return str(UUID(value))
    except (ValueError, AttributeError, TypeError):
        faults.append(FieldFault("properties.operation_id", value, "must be the id of a scheduled operation"))
        return ""


def _states(value: Any, faults: list[FieldFault]) -> list[str]:
    wanted = [RunState.SUCCESS.value] if value is None else [value] if isinstance(value, str) else value
    is_list = isinstance(wanted, list | tuple) and all(one in STATES for one in wanted)
    if not is_list or not wanted:
        faults.append(FieldFault("properties.states", value, f"must be some of {', '.join(STATES)}"))
        return []
    return [one for one in STATES if one in wanted]
