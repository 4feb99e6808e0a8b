# SPDX-License-Identifier: Apache-2.0
"""Usage: which blobs the snapshots need, one bit for each entry of the index.

Of a blob that stands in several packs one copy is chosen: one that has been read and found whole, so that a
prune never keeps a damaged copy and drops the good one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from seawall.core.errors import DamagedError
from seawall.repository.codec import parse_id
from seawall.repository.index import Index, Marks
from seawall.repository.pack import BlobType
from seawall.repository.reader import Reader

_CHECK_EVERY: Final = 256


class Usage:
    """What a set of trees needs of an index that does not change meanwhile."""

    def __init__(
        self, known: Index, reader: Reader, sizes: dict[bytes, int], check: Callable[[], None]
    ) -> None:
        self.marks = Marks(known)
        self.missing: set[tuple[BlobType, bytes]] = set()
        self._index = known
        self._reader = reader
        self._sizes = sizes
        self._check = check
        self._trees = 0

    def take(self, roots: Iterable[bytes]) -> None:
        """Mark all that these trees need; what is in no pack on the bank is in ``missing``."""
        todo = list(roots)
        while todo:
            tree_id = todo.pop()
            if self.marks.has(tree_id, BlobType.TREE) or not self._mark(tree_id, BlobType.TREE):
                continue
            self._trees += 1
            if self._trees % _CHECK_EVERY == 0:
                self._check()
            what = f"tree {tree_id.hex()[:16]}"
            try:
                for entry in self._reader.entries(tree_id):
                    for blob_id in entry.get("content") or ():
                        self._mark(parse_id(blob_id), BlobType.DATA)
                    if entry.get("subtree"):
                        todo.append(parse_id(entry["subtree"]))
            except (AttributeError, TypeError, ValueError) as error:
                raise DamagedError(f"{what}: holds an entry that is no node: {error!r}") from None

    def _mark(self, blob_id: bytes, blob_type: BlobType) -> bool:
        if self.marks.has(blob_id, blob_type):
            return True
        places = [
            place for place in self._index.locations(blob_id, blob_type) if place.pack_id in self._sizes
        ]
        if len({place.pack_id for place in places}) > 1:
            places = [place for place in places if self._reader.is_whole(place)] or places
        if not places:
            self.missing.add((blob_type, blob_id))
            return False
        self.marks.add(blob_id, blob_type, places[0].pack_id)
        return True
