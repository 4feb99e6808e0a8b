# SPDX-License-Identifier: Apache-2.0
"""``retention_protect``: make one checkpoint of a plan, then delete what the rules no longer keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from seawall.core.retention import COUNT_RULES, parse_retention
from seawall.sdk.operation import Json, OperationContext

# Karbor's clients send numbers as text. 0 or less is off; days for ``retention_duration``.
_COUNT = {"type": ["integer", "string"], "pattern": "^\\s*[+-]?[0-9]+\\s*$"}


class RetentionProtect:
    """Protect, then retention; the second only after a clean first (I6)."""

    operation_type: ClassVar[str] = "retention_protect"
    definition_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "plan_id": {"type": "string", "format": "uuid"},
            "provider_id": {"type": "string", "format": "uuid"},
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
        """The checkpoint's figures, and under ``retention`` what was deleted.

        Raises what the protect raised; then nothing was deleted. A delete that failed is listed in
        ``retention.failed`` and tried again by the next run or the clean-up; the run is still a success, for
        its backup is there.
        """
        outcome = context.protection.protect(
            context, plan_id=definition["plan_id"], provider_id=definition["provider_id"]
        )
        result: Json = asdict(outcome)
        rules = {key: value for key, value in definition.items() if key not in ("plan_id", "provider_id")}
        if not rules:
            return result
        if outcome.status != "available":
            context.log("warning", f"this run deletes nothing, for its checkpoint is {outcome.status}")
            result["retention"] = {"held_because": f"the checkpoint is {outcome.status}"}
            return result
        expiry = context.protection.expire(
            context,
            plan_id=definition["plan_id"],
            scheduled_operation_id=context.scheduled_operation_id,
            rules=rules,
        )
        for checkpoint_id, reason in expiry.failed.items():
            context.log("warning", f"checkpoint {checkpoint_id} was not deleted: {reason}")
        result["retention"] = asdict(expiry)
        return result
