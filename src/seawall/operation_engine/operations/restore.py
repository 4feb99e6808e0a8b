# SPDX-License-Identifier: Apache-2.0
"""``restore``: carry out a restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from seawall.sdk.operation import Json, OperationContext


class Restore:
    """Brings back what a restore row asks for; its steps are journaled, so a second call goes on."""

    operation_type: ClassVar[str] = "restore"
    schedulable: ClassVar[bool] = False
    definition_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"restore_id": {"type": "string", "format": "uuid"}},
        "required": ["restore_id"],
        "additionalProperties": False,
    }

    def run(self, definition: Json, context: OperationContext) -> Mapping[str, Any]:
        """What was restored. Raises when a resource could not be; the restore row says which."""
        return context.protection.restore(context, restore_id=definition["restore_id"])
