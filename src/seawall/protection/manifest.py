# SPDX-License-Identifier: Apache-2.0
"""``.seawall/checkpoint.json``: what a snapshot says of itself, so that it needs no database (I5, I9).

    {"version": 1, "checkpoint": {the row's fields}, "policy": {see ``policy``}}

The row is the image of the snapshot: it is written after it, and can be made anew from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from seawall.core.errors import DamagedError
from seawall.core.records import Checkpoint, Json
from seawall.protection.policy import Policy, document_of, read_policy, record_of

FOLDER: Final = ".seawall"
NAME: Final = "checkpoint.json"
PATH: Final = f"{FOLDER}/{NAME}"
VERSION: Final = 1
MOST_BYTES: Final = 64 << 20
"""More than any manifest has; a longer one is not read."""
# It is part of the snapshot, so it cannot know its id.
_UNKNOWN: Final = frozenset({"snapshot_id"})


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot says of itself."""

    checkpoint: Checkpoint
    """As its row is to be; ``snapshot_id`` is None."""
    policy: Policy


def encode(checkpoint: Checkpoint, policy: Json) -> bytes:
    """The bytes of the file, for a checkpoint as its row is to be once the snapshot is there."""
    document = {
        "version": VERSION,
        "checkpoint": document_of(checkpoint, leave_out=_UNKNOWN),
        "policy": policy,
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def decode(content: bytes) -> Manifest:
    """What stands in the file; ``DamagedError`` when it is none."""
    try:
        value = orjson.loads(content)
        if not isinstance(value, Mapping) or not isinstance(value["checkpoint"], Mapping):
            raise TypeError("it has no object `checkpoint`")
        checkpoint = record_of(Checkpoint, {**value["checkpoint"], "snapshot_id": None})
        policy = value["policy"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{PATH} does not describe a checkpoint: {error!r}") from error
    return Manifest(checkpoint, read_policy(policy))
