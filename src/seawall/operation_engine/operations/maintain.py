# SPDX-License-Identifier: Apache-2.0
"""``maintain``: keep one repository in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from seawall.sdk.operation import Json, OperationContext


class Maintain:
    """Prunes in two phases, removes stale locks, and makes the rows say what the bank has (I5, I12)."""

    operation_type: ClassVar[str] = "maintain"
    schedulable: ClassVar[bool] = False
    definition_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"repository_id": {"type": "string", "format": "uuid"}},
        "required": ["repository_id"],
        "additionalProperties": False,
    }

    def run(self, definition: Json, context: OperationContext) -> Mapping[str, Any]:
        """Figures of what was removed and mended. Nothing that a snapshot needs is gone after an error."""
        return context.protection.maintain(context, repository_id=definition["repository_id"])
