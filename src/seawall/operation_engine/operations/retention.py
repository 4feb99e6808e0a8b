# SPDX-License-Identifier: Apache-2.0
"""``retention``: delete what the rules no longer keep, without a new backup.

The clean-up makes runs of it, so that retention goes on when no backup runs (M6); it may be scheduled, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from seawall.core.errors import RunError
from seawall.core.retention import COUNT_RULES, parse_retention
from seawall.sdk.operation import Json, OperationContext

# Karbor's clients send numbers as text. 0 or less is off; days for ``retention_duration``.
_COUNT = {"type": ["integer", "string"], "pattern": "^\\s*[+-]?[0-9]+\\s*$"}


class RetentionOperation:
    """Retention of one scope: a plan's checkpoints that one scheduled operation made (I6)."""

    operation_type: ClassVar[str] = "retention"
    definition_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "plan_id": {"type": "string", "format": "uuid"},
            "provider_id": {"type": "string", "format": "uuid"},
            "scheduled_operation_id": {
                "type": "string",
                "format": "uuid",
                "description": "whose checkpoints; the operation itself when absent",
            },
            **dict.fromkeys(COUNT_RULES, _COUNT),
            "keep_within": {"type": ["string", "integer"], "description": "a duration like 7d"},
        },
        "required": ["plan_id", "provider_id"],
        "additionalProperties": False,
    }

    @staticmethod
    def check_definition(definition: Mapping[str, Any]) -> None:
        """What the schema cannot say: ``InvalidInputError`` names the rules that make no sense."""
        parse_retention(definition)

    def run(self, definition: Json, context: OperationContext) -> Mapping[str, Any]:
        """What was kept and deleted. ``RunError`` when a delete failed; the others were deleted all the same,
        and the next run tries again."""
        rules = {
            key: value
            for key, value in definition.items()
            if key not in ("plan_id", "provider_id", "scheduled_operation_id")
        }
        expiry = context.protection.expire(
            context,
            plan_id=definition["plan_id"],
            scheduled_operation_id=definition.get("scheduled_operation_id", context.scheduled_operation_id),
            rules=rules,
        )
        if expiry.held_because is not None:
            context.log("warning", f"nothing is deleted: {expiry.held_because}")
        if expiry.failed:
            for checkpoint_id, reason in expiry.failed.items():
                context.log("error", f"checkpoint {checkpoint_id} was not deleted: {reason}")
            raise RunError(
                f"{len(expiry.failed)} of {len(expiry.failed) + len(expiry.deleted)} expired checkpoints "
                "could not be deleted: " + "; ".join(f"{one}: {why}" for one, why in expiry.failed.items())
            )
        return asdict(expiry)
