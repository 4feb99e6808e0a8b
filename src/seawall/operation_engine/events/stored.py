# SPDX-License-Identifier: Apache-2.0
"""Whether stored event triggers still hold (M3): a newer version may be stricter than what took them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from seawall.core.errors import InvalidInputError
from seawall.core.records import Json
from seawall.db import due
from seawall.db.events import StoredTrigger
from seawall.operation_engine.events.properties import EventProperties, parse_event_properties
from seawall.runtime.logging import get_logger

if TYPE_CHECKING:
    from seawall.db.session import Tx

log = get_logger(__name__)


def faults_of(stored: Iterable[StoredTrigger]) -> dict[int, str]:
    """Row -> why it can no longer be fired by what it listens to."""
    faults = {}
    for one in stored:
        try:
            _check(one)
        except InvalidInputError as error:
            faults[one.row] = str(error)
            log.warning("trigger quarantined", trigger_row=one.row, reason=str(error))
    return faults


def sound(tx: Tx, properties: Mapping[int, Json]) -> dict[int, EventProperties]:
    """Row -> what it listens to, of triggers that are to be fired; those that no longer hold are quarantined
    and keep the others back from nothing."""
    found, faults = {}, {}
    for row, given in properties.items():
        try:
            found[row] = parse_event_properties(given)
        except InvalidInputError as error:
            faults[row] = str(error)
            log.warning("trigger quarantined", trigger_row=row, reason=str(error))
    if faults:
        due.quarantine(tx, faults)
    return found


def _check(one: StoredTrigger) -> None:
    wanted = parse_event_properties(one.properties)
    if wanted.source != one.source:
        rule = f"is not what it listens to, which is {one.source}"
        raise InvalidInputError.of("properties.source", wanted.source, rule)
    if wanted.operation_id != one.operation_id:
        rule = f"is not what it listens to, which is {one.operation_id}"
        raise InvalidInputError.of("properties.operation_id", wanted.operation_id, rule)
    if one.operation_id is not None and not one.has_operation:
        rule = "is no scheduled operation of its project"
        raise InvalidInputError.of("properties.operation_id", one.operation_id, rule)
    if one.source == "webhook" and not one.has_secret:
        raise InvalidInputError.of(
            "properties.source", one.source, "has no secret: make one, and then set its properties again"
        )
