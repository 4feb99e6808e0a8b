# SPDX-License-Identifier: Apache-2.0
"""Snapshots: the commit point of a backup. What no snapshot reaches does not exist for anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from seawall.core.errors import DamagedError
from seawall.repository import codec
from seawall.repository.crypto import Key
from seawall.repository.nodes import format_time, parse_time
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

PREFIX: Final = "snapshots/"
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One stored snapshot. ``tree`` is the hex id of its root tree."""

    id: str
    time: datetime
    tree: str
    paths: tuple[str, ...] = ()
    hostname: str = ""
    username: str = ""
    tags: tuple[str, ...] = ()
    parent: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)


def to_json(snapshot: Snapshot, *, uid: int, gid: int) -> dict[str, Any]:
    """The object that is stored; its id is not part of it."""
    time_ns = int(snapshot.time.timestamp()) * _SECOND_NS + snapshot.time.microsecond * 1000
    value: dict[str, Any] = {"time": format_time(time_ns)}
    if snapshot.parent is not None:
        value["parent"] = snapshot.parent
    value |= {
        "tree": snapshot.tree,
        "paths": list(snapshot.paths),
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "uid": uid,
        "gid": gid,
    }
    if snapshot.tags:
        value["tags"] = list(snapshot.tags)
    if snapshot.summary:
        value["summary"] = dict(snapshot.summary)
    return value


def from_json(snapshot_id: str, value: Mapping[str, Any]) -> Snapshot:
    """The snapshot of a stored object; ``DamagedError`` if it is not one."""
    try:
        second, rest = divmod(parse_time(value["time"]), _SECOND_NS)
        return Snapshot(
            snapshot_id,
            datetime.fromtimestamp(second, UTC).replace(microsecond=rest // 1000),
            codec.parse_id(value["tree"]).hex(),
            _texts(value.get("paths")),
            str(value.get("hostname", "")),
            str(value.get("username", "")),
            _texts(value.get("tags")),
            _parent(value.get("parent")),
            dict(value.get("summary") or {}),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"snapshot {snapshot_id[:16]}: is not a snapshot: {error!r}") from None


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | None) or not all(isinstance(one, str) for one in value or ()):
        raise TypeError("paths and tags must be lists of texts")
    return tuple(value or ())


def _parent(value: Any) -> str | None:
    return None if value is None else codec.parse_id(value).hex()


def save(bank: Bank, key: Key, snapshot: Snapshot, *, uid: int, gid: int) -> str:
    """Store a snapshot, durable on return, and read it back; its id."""
    sealed = key.seal(codec.pack_object(to_json(snapshot, uid=uid, gid=gid)))
    name = codec.content_id(sealed).hex()
    failpoint("repository.snapshot.before_put")
    bank.put(PREFIX + name, sealed)
    failpoint("repository.snapshot.after_put")
    if bank.get(PREFIX + name, length=len(sealed) + 1) != sealed:
        raise DamagedError(f"snapshot {name[:16]}: reads back differently from what was written")
    return name


def load(bank: Bank, key: Key, snapshot_id: str) -> Snapshot:
    """Read a snapshot, checked against its name."""
    what = f"snapshot {snapshot_id[:16]}"
    sealed = codec.fetch(bank, PREFIX + snapshot_id, what)
    if codec.content_id(sealed).hex() != snapshot_id:
        raise DamagedError(f"{what}: its bytes have another id")
    return from_json(snapshot_id, codec.unpack_object(key.open(sealed, what), what))
