# SPDX-License-Identifier: Apache-2.0
"""Operations that wait for one another: no cycle, and no chain that is longer than a run may carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seawall.core.errors import InvalidInputError
from seawall.db import events

if TYPE_CHECKING:
    from seawall.db.session import Connection


def refuse_cycle(connection: Connection, *, watched: str, trigger_id: str | None) -> None:
    """``InvalidInputError`` when a trigger that waits for ends of ``watched`` would, over others, wait for
    its own operations, or would stand at the end of too long a chain."""
    for length, (operation_id, its_trigger) in enumerate(events.upstream(connection, watched), start=1):
        if its_trigger == trigger_id:
            rule = f"would go round in a circle: operation {operation_id} is fired by this trigger"
            raise InvalidInputError.of("properties.operation_id", watched, rule)
        if length > events.MAX_DEPTH:
            rule = f"would be the end of a chain of more than {events.MAX_DEPTH} operations"
            raise InvalidInputError.of("properties.operation_id", watched, rule)
