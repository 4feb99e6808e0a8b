# SPDX-License-Identifier: Apache-2.0
"""Reader: blobs by id, checked, with a little read-ahead.

Neighbours in a tree are neighbours in packs, so a miss reads a window of the pack and the next blobs cost no
request. A blob that is damaged in one pack is taken from another one that holds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from seawall.core.errors import BankObjectMissingError, DamagedError
from seawall.repository import trees
from seawall.repository.crypto import Key
from seawall.repository.index import Index, Location
from seawall.repository.nodes import Node, tree_entries
from seawall.repository.pack import (
    LARGE_BYTES,
    BlobType,
    PackedBlob,
    open_blob,
    open_pieces,
    opens,
    pack_key,
)
from seawall.repository.spool import InMemory, OnDisk
from seawall.sdk.bank import Bank

_Opened = TypeVar("_Opened")
_Spool = TypeVar("_Spool", InMemory, OnDisk)

WINDOW_BYTES: Final = 1024 * 1024
WINDOWS: Final = 4
_STRETCH_BYTES: Final = 8 * 1024 * 1024
_BEHIND_BYTES: Final = 128 * 1024


class Reader:
    """Reads one repository. For one thread at a time, but for what says otherwise."""

    def __init__(self, bank: Bank, key: Key, known: Index) -> None:
        self._bank = bank
        self._key = key
        self._index = known
        self._windows: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def _sealed(self, location: Location) -> memoryview:
        blob = location.blob
        window = self._windows.get(location.pack_id)
        if window is not None:
            start, content = window
            if start <= blob.offset and blob.offset + blob.length <= start + len(content):
                self._windows.move_to_end(location.pack_id)
                return memoryview(content)[blob.offset - start : blob.offset - start + blob.length]
        if blob.length > LARGE_BYTES:  # nothing is kept of it
            content = self._bank.get(pack_key(location.pack_id), offset=blob.offset, length=blob.length)
            return memoryview(content)
        start, length = blob.offset, max(blob.length, WINDOW_BYTES)
        if blob.type is BlobType.TREE:  # most of a folder's children stand before it, and some behind
            start = max(0, min(start, blob.offset + blob.length - length + _BEHIND_BYTES))
        content = self._bank.get(pack_key(location.pack_id), offset=start, length=length)
        self._windows[location.pack_id] = (start, content)
        self._windows.move_to_end(location.pack_id)
        while len(self._windows) > WINDOWS:
            self._windows.popitem(last=False)
        return memoryview(content)[blob.offset - start : blob.offset - start + blob.length]

    def blob(self, blob_id: bytes, blob_type: BlobType) -> bytes:
        """The content of a blob; ``DamagedError`` when no pack of the index holds it whole."""
        return self._first(
            blob_id, blob_type, lambda place: open_blob(self._key, self._sealed(place), place.blob)
        )

    def _first(self, blob_id: bytes, blob_type: BlobType, opened: Callable[[Location], _Opened]) -> _Opened:
        """What ``opened`` makes of the first copy of a blob that it finds whole."""
        damage: DamagedError | None = None
        for attempt in range(2):
            for location in self._index.locations(blob_id, blob_type):
                try:
                    return opened(location)
                except BankObjectMissingError:
                    found = DamagedError(f"pack {location.pack_id.hex()[:16]} is missing")
                except DamagedError as error:
                    found = DamagedError(f"pack {location.pack_id.hex()[:16]}: {error}")
                damage = damage or found
            if attempt == 0:  # perhaps another writer has stored it, or a prune has moved it
                before = self._index.files
                self._index.refresh(self._bank, self._key)
                if self._index.files == before:
                    break
        if damage is not None:
            raise damage
        raise DamagedError(f"{blob_type.word} blob {blob_id.hex()[:16]} is in no index")

    @property
    def is_near(self) -> bool:
        """Whether the bank is a folder of this host."""
        return self._bank.features.local_path is not None

    def find(self, blob_id: bytes) -> Location | None:
        """A place where a data blob stands; None when it is in no index."""
        return self._index.find(blob_id, BlobType.DATA)

    def fetch(self, pack_id: bytes, offset: int, length: int) -> bytes:
        """A part of a pack as it lies on the bank. From any thread."""
        return self._bank.get(pack_key(pack_id), offset=offset, length=length)

    def open(self, sealed: memoryview | bytes, blob: PackedBlob) -> bytes:
        """The content of a blob that was fetched, checked; ``DamagedError``. From any thread."""
        return open_blob(self._key, sealed, blob)

    def is_whole(self, location: Location) -> bool:
        """Whether this very copy of a blob can be read."""
        try:
            return opens(self._key, self._sealed(location), location.blob)
        except BankObjectMissingError:
            return False

    def size(self, blob_id: bytes, blob_type: BlobType) -> int:
        """The length of a blob's content, without reading it; -1 when it is in no index."""
        location = self._index.find(blob_id, blob_type)
        return location.blob.size if location else -1

    def entries(self, tree_id: bytes) -> Iterator[dict[str, Any]]:
        """The JSON nodes of a tree. ``DamagedError`` at once, and of a large tree also late."""
        what = f"tree {tree_id.hex()[:16]}"
        if self.size(tree_id, BlobType.TREE) < LARGE_BYTES:
            return iter(tree_entries(self.blob(tree_id, BlobType.TREE), what))
        return trees.entries(self._first(tree_id, BlobType.TREE, self._open_pieces), what)

    def _open_pieces(self, place: Location) -> Iterator[bytes]:
        """The content of a large blob, which is spooled: so it is read from the bank once, and never held."""
        try:
            read = self._spooled(place, OnDisk()).read
        except OSError:  # no room there; memory it costs then
            read = self._spooled(place, InMemory()).read
        return open_pieces(self._key, read, place.blob)

    def _spooled(self, place: Location, spool: _Spool) -> _Spool:
        blob = place.blob
        for start in range(0, blob.length, _STRETCH_BYTES):
            length = min(_STRETCH_BYTES, blob.length - start)
            content = self._bank.get(pack_key(place.pack_id), offset=blob.offset + start, length=length)
            if len(content) != length:
                raise DamagedError(
                    f"blob {blob.id.hex()[:16]}: {start + len(content)} of {blob.length} bytes are there"
                )
            spool.append(content)
        return spool

    def tree(self, tree_id: bytes) -> Iterator[Node]:
        """The nodes of a tree. ``DamagedError`` as in ``entries``; a small tree is decoded at once."""
        decoded = map(Node.decode, self.entries(tree_id))
        return decoded if self.size(tree_id, BlobType.TREE) >= LARGE_BYTES else iter(list(decoded))
