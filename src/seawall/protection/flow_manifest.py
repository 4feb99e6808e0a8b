# SPDX-License-Identifier: Apache-2.0
"""``.seawall/checkpoint.json``: what a snapshot says of itself, so that the bank alone is enough (I9).

{"version": 1, "checkpoint": {the row, but for what only the bank knows}, "policy": {see ``policy``}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from seawall.core.errors import DamagedError
from seawall.core.records import Checkpoint, Json

VERSION: Final = 1
# The snapshot's id is its name on the bank; these say what has become of it since, here.
_NOT_STORED: Final = frozenset({"snapshot_id", "verified_at", "pinned"})


def render(checkpoint: Checkpoint, policy: Mapping[str, Any]) -> str:
    """The manifest of a checkpoint as it will be once its snapshot exists."""
    stored: Json = {}
    for one in fields(checkpoint):
        value = getattr(checkpoint, one.name)
        if one.name not in _NOT_STORED:
            stored[one.name] = value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
    return orjson.dumps(
        {"version": VERSION, "checkpoint": stored, "policy": dict(policy)}, option=orjson.OPT_INDENT_2
    ).decode()


def parse(text: str, *, snapshot_id: str) -> tuple[Checkpoint, object]:
    """The checkpoint of a manifest, and its policy for ``policy.read_policy``; ``DamagedError`` if it is no
    manifest.

    Fields that this version does not know are left out.
    """
    try:
        value = orjson.loads(text)
        stored = value["checkpoint"]
        given: dict[str, Any] = {
            one.name: stored[one.name]
            for one in fields(Checkpoint)
            if one.name not in _NOT_STORED and one.name in stored
        }
        for name in ("created_at", "ended_at"):
            given[name] = None if given[name] is None else datetime.fromisoformat(given[name]).astimezone(UTC)
        given["resources"] = tuple(given["resources"])
        made = Checkpoint(**given, snapshot_id=snapshot_id, verified_at=None, pinned=False)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"the manifest of snapshot {snapshot_id[:16]} is not one: {error!r}") from error
    return made, value.get("policy")
