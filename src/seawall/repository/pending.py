# SPDX-License-Identifier: Apache-2.0
"""Pending deletions: packs that a prune has taken out of the index and that go after a grace period.

A marker lies below ``seawall/pending/``, outside the folders that restic looks into; to restic these packs
are only unused ones. It is sealed, so that only a holder of the key can ask for a deletion, and never
changed. It says when the packs had left the index and who held a lock at that time: such a writer may still
rely on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from seawall.core.errors import BankObjectMissingError, DamagedError
from seawall.repository import codec
from seawall.repository.crypto import Key
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

PREFIX: Final = "seawall/pending/"


@dataclass(frozen=True, slots=True)
class Pending:
    """One marker. ``holders`` are those of the locks that were live after the index was published."""

    id: str
    at: datetime
    holders: frozenset[str]
    packs: tuple[bytes, ...]


def save(bank: Bank, key: Key, packs: Iterable[bytes], *, at: datetime, holders: Iterable[str]) -> Pending:
    """Store a marker, durable on return. If the process dies before, the next prune marks the packs."""
    ordered = tuple(sorted(packs))
    kept = frozenset(holders)
    value = {
        "at": at.isoformat(),
        "holders": sorted(kept),
        "packs": [pack_id.hex() for pack_id in ordered],
    }
    sealed = key.seal(codec.pack_object(value))
    name = codec.content_id(sealed).hex()
    failpoint("repository.pending.before_put")
    bank.put(PREFIX + name, sealed)
    failpoint("repository.pending.after_put")
    return Pending(name, at, kept, ordered)


def load_all(bank: Bank, key: Key) -> Iterator[Pending]:
    """Every marker. One that cannot be read names no packs: they count as orphans and are marked anew."""
    for item in list(bank.list(PREFIX)):
        name = item.key.removeprefix(PREFIX)
        what = f"pending deletion {name[:16]}"
        try:
            value: dict[str, Any] = codec.unpack_object(
                key.open(codec.fetch(bank, item.key, what), what), what
            )
            at = datetime.fromisoformat(value["at"]).astimezone(UTC)
            packs = tuple(codec.parse_id(pack_id) for pack_id in value["packs"])
            yield Pending(name, at, frozenset(map(str, value["holders"])), packs)
        except BankObjectMissingError:
            continue  # another prune has ended it
        except (DamagedError, KeyError, TypeError, ValueError, OverflowError):
            yield Pending(name, datetime.min.replace(tzinfo=UTC), frozenset(), ())


def remove(bank: Bank, marker: Pending) -> None:
    """Remove a marker when its packs are gone; its packs count as new orphans if that comes too early."""
    failpoint("repository.pending.before_delete")
    bank.delete(PREFIX + marker.id)
    failpoint("repository.pending.after_delete")
