# SPDX-License-Identifier: Apache-2.0
"""``delete``: delete one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from seawall.sdk.operation import Json, OperationContext


class Delete:
    """Removes the snapshot, then moves the row; either may have been done by an earlier call (I5)."""

    operation_type: ClassVar[str] = "delete"
    schedulable: ClassVar[bool] = False
    definition_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"checkpoint_id": {"type": "string", "format": "uuid"}},
        "required": ["checkpoint_id"],
        "additionalProperties": False,
    }

    def run(self, definition: Json, context: OperationContext) -> Mapping[str, Any]:
        """What was removed. After an error the checkpoint is in ``error``, with the reason."""
        return context.protection.delete(context, checkpoint_id=definition["checkpoint_id"])
