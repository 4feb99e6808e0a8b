# SPDX-License-Identifier: Apache-2.0
"""``protect``: make one checkpoint of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from seawall.sdk.operation import Json, OperationContext


class Protect:
    """One checkpoint. Called again after a crash, it finishes the one that its run has begun (I5)."""

    operation_type: ClassVar[str] = "protect"
    definition_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "plan_id": {"type": "string", "format": "uuid"},
            "provider_id": {"type": "string", "format": "uuid"},
            "checkpoint_id": {
                "type": "string",
                "format": "uuid",
                "description": "the checkpoint that was promised to the user, for a manual run",
            },
        },
        "required": ["plan_id", "provider_id"],
        "additionalProperties": False,
    }

    def run(self, definition: Json, context: OperationContext) -> Mapping[str, Any]:
        """The checkpoint's id and figures. Raises what the protect raised; then there is no checkpoint."""
        return asdict(
            context.protection.protect(
                context, plan_id=definition["plan_id"], provider_id=definition["provider_id"]
            )
        )
