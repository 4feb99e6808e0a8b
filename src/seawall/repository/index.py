# SPDX-License-Identifier: Apache-2.0
"""The index: which pack holds which blob, sorted and on disk.

Entries are fixed records of 50 bytes, sorted by blob id, in a few immutable segments with a fan-out table
each; a lookup reads one bucket of about eight records. Small segments are in memory, large ones in temporary
files (below ``TMPDIR``), so that a million blobs take half a MB of memory and 50 MB of the disk. What is in
these files was opened and checked by this process and nobody else can reach it: it is no cache to be
distrusted. A blob may stand in several packs; all its entries are kept.

``Index.refresh`` reads only the index files that are new. When a file that was read has gone (a prune
replaced it), the whole index is read again. A pack keeps its number for as long as the index is open, also
when no file names it any more (``is_named``), so that a writer can say which packs it relies on.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from seawall.core.errors import BankObjectMissingError, DamagedError, LeaseLostError
from seawall.repository import codec
from seawall.repository.codec import parse_id
from seawall.repository.crypto import Key
from seawall.repository.pack import BlobType, PackedBlob, pack_key, read_header
from seawall.repository.spool import InMemory, OnDisk
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

PREFIX: Final = "index/"
MAX_FILE_BLOBS: Final = 50_000
"""An index file holds about this many blobs at most (whole packs only)."""

_RECORD = struct.Struct("<32sBxIIII")
_RECORD_BYTES = _RECORD.size
_TYPES: Final = {one.word: one for one in BlobType}
_MAX_OFFSET = 2**32 - 1
_BUCKET = 8
_STRETCH = 8192
ON_DISK_FROM: Final = 2**16
"""A segment of so many entries (3 MB) is kept in a temporary file."""
_LOADED_AT_ONCE: Final = 200_000
_RANGES = 256
_MAX_FANOUT_BITS = 24


@dataclass(frozen=True, slots=True)
class Location:
    """One entry: a blob and the pack that holds it."""

    pack_id: bytes
    blob: PackedBlob


class _Segment:
    """Sorted records and the table that finds them; immutable."""

    def __init__(self, fresh: list[bytes], former: Sequence[_Segment] = ()) -> None:
        """Of new records and those of other segments, merged by ranges: few are objects at any one time."""
        fresh.sort()
        self.count: int = len(fresh) + sum(segment.count for segment in former)
        self._bits = min(max((self.count // _BUCKET).bit_length(), 1), _MAX_FANOUT_BITS)
        self._records: InMemory | OnDisk = InMemory()
        if self.count < ON_DISK_FROM:
            self._fill(fresh, former)
            return
        try:
            self._records = OnDisk()
            self._fill(fresh, former)
        except OSError:  # no room there; memory it costs then
            self._records = InMemory()
            self._fill(fresh, former)

    def _fill(self, fresh: Sequence[bytes], former: Sequence[_Segment]) -> None:
        shift = 32 - self._bits
        starts = array("I", bytes(4 * ((1 << self._bits) + 1)))
        taken = 0
        for top in range(_RANGES):
            stop = bisect_left(fresh, bytes((top + 1,)), taken) if top + 1 < _RANGES else len(fresh)
            records = list(fresh[taken:stop])
            taken = stop
            for segment in former:
                records += segment.split(top)
            records.sort()
            for record in records:
                starts[(int.from_bytes(record[:4], "big") >> shift) + 1] += 1
            self._records.append(b"".join(records))
        self._starts = array("I", itertools.accumulate(starts))

    def _read(self, first: int, end: int) -> bytes:
        return self._records.read(first * _RECORD_BYTES, end * _RECORD_BYTES)

    def find(self, prefix: bytes) -> tuple[int, bytes]:
        """The number of the first record that begins with ``prefix`` (id and type) and what follows it.

        -1 and nothing when there is none. Further such records follow at once.
        """
        bucket = int.from_bytes(prefix[:4], "big") >> (32 - self._bits)
        first = self._starts[bucket]
        part = self._read(first, self._starts[bucket + 1])
        position = part.find(prefix)
        while position % _RECORD_BYTES:
            if position < 0:
                return -1, b""
            position = part.find(prefix, position + 1)
        return first + position // _RECORD_BYTES, part[position:]

    def matches(self, prefix: bytes) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every record that begins with ``prefix``."""
        number, rest = self.find(prefix)
        while rest.startswith(prefix):
            yield number, rest[:_RECORD_BYTES]
            number, rest = number + 1, rest[_RECORD_BYTES:]

    def split(self, top: int) -> list[bytes]:
        """The records whose ids begin with this byte one by one, sorted."""
        if self._bits >= 8:
            first, last = (self._starts[at << (self._bits - 8)] for at in (top, top + 1))
        else:  # few: a bucket holds several first bytes
            at = top >> (8 - self._bits)
            first, last = self._starts[at], self._starts[at + 1]
        found = _one_by_one(self._read(first, last))
        return found if self._bits >= 8 else [record for record in found if record[0] == top]

    def __iter__(self) -> Iterator[bytes]:
        """Every record, sorted."""
        for first in range(0, self.count, _STRETCH):
            yield from _one_by_one(self._read(first, min(first + _STRETCH, self.count)))


def _one_by_one(records: bytes) -> list[bytes]:
    return [records[start : start + _RECORD_BYTES] for start in range(0, len(records), _RECORD_BYTES)]


def parse_file(value: codec.Json, what: str) -> Iterator[tuple[bytes, list[PackedBlob]]]:
    """The packs of an index file's JSON; ``DamagedError`` naming ``what`` if it is not one."""
    try:
        packs: Any = value["packs"]
        for entry in packs or ():
            blobs = [
                PackedBlob(
                    parse_id(blob["id"]),
                    _TYPES[blob["type"]],
                    blob["offset"],
                    blob["length"],
                    blob.get("uncompressed_length", 0),
                )
                for blob in entry["blobs"] or ()
            ]
            if not all(_fits(blob) for blob in blobs):
                raise ValueError("a blob has an impossible place or length")
            yield parse_id(entry["id"]), blobs
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{what}: is not an index: {error!r}") from None


def _fits(blob: PackedBlob) -> bool:
    """Whether its figures are whole numbers that a record can hold and that a blob can have."""
    return (
        type(blob.offset) is type(blob.length) is type(blob.unpacked) is int
        and 0 <= blob.offset <= _MAX_OFFSET
        and blob.is_sane
    )


def file_json(packs: Iterable[tuple[bytes, Sequence[PackedBlob]]]) -> bytes:
    """The JSON of an index file with these packs. Made as text: a dict for each blob would take 400 bytes."""
    texts = (
        f'{{"id":"{pack_id.hex()}","blobs":[{",".join([_blob_json(blob) for blob in blobs])}]}}'
        for pack_id, blobs in packs
    )
    return f'{{"packs":[{",".join(texts)}]}}'.encode()


def _blob_json(blob: PackedBlob) -> str:
    unpacked = f',"uncompressed_length":{blob.unpacked}' if blob.unpacked else ""
    return (
        f'{{"id":"{blob.id.hex()}","type":"{blob.type.word}"'
        f',"offset":{blob.offset},"length":{blob.length}{unpacked}}}'
    )


def load_file(bank: Bank, key: Key, file_id: str) -> list[tuple[bytes, list[PackedBlob]]]:
    """The packs of one stored index file, checked against its name."""
    what = f"index {file_id[:16]}"
    sealed = codec.fetch(bank, PREFIX + file_id, what)
    if codec.content_id(sealed).hex() != file_id:
        raise DamagedError(f"{what}: its bytes have another id")
    return list(parse_file(codec.unpack_object(key.open(sealed, what), what), what))


def save_file(
    bank: Bank,
    key: Key,
    packs: Sequence[tuple[bytes, Sequence[PackedBlob]]],
    *,
    held: Callable[[], None] = lambda: None,
) -> str:
    """Store one index file, durable on return, and read it back; its id.

    ``held`` raises ``LeaseLostError`` when the lock that protects the packs has expired: a prune may then
    have removed them. It is asked before and after, since this process may be stopped in between for as long
    as it likes; the file is then taken back. Who has relied on it meanwhile names the packs again, or finds
    them gone, before he commits.
    """
    sealed = key.seal(codec.pack_text(file_json(packs)))
    file_id = codec.content_id(sealed).hex()
    held()
    failpoint("repository.index.before_put")
    bank.put(PREFIX + file_id, sealed)
    failpoint("repository.index.after_put")
    try:
        held()
    except LeaseLostError:
        failpoint("repository.index.before_delete")
        bank.delete(PREFIX + file_id)
        failpoint("repository.index.after_delete")
        raise
    if bank.get(PREFIX + file_id, length=len(sealed) + 1) != sealed:
        raise DamagedError(f"index {file_id[:16]}: reads back differently from what was written")
    return file_id


class Index:
    """All entries of the index files read so far. For one thread at a time."""

    def __init__(self) -> None:
        self._segments: tuple[_Segment, ...] = ()
        self._packs: list[bytes] = []
        self._pack_numbers: dict[bytes, int] = {}
        self._named: set[int] = set()
        self._files: set[str] = set()

    @property
    def files(self) -> frozenset[str]:
        """Ids of the index files that are read."""
        return frozenset(self._files)

    def __len__(self) -> int:
        return sum(segment.count for segment in self._segments)

    def refresh(self, bank: Bank, key: Key) -> None:
        """Take in what other writers stored. On an error the index stays as it was."""
        for _ in range(10):
            there = [item.key.removeprefix(PREFIX) for item in bank.list(PREFIX)]
            if not self._files.issubset(there):
                fresh = Index()
                fresh._packs, fresh._pack_numbers = list(self._packs), dict(self._pack_numbers)
                try:
                    fresh._take_files(bank, key, there)
                except BankObjectMissingError:
                    continue  # a prune is replacing the files under us: list again
                self._segments, self._files = fresh._segments, fresh._files
                self._packs, self._pack_numbers = fresh._packs, fresh._pack_numbers
                self._named = fresh._named
                return
            try:
                self._take_files(bank, key, [name for name in there if name not in self._files])
            except BankObjectMissingError:
                continue
            return
        raise DamagedError("the index files keep vanishing while they are read; is another prune running?")

    def _take_files(self, bank: Bank, key: Key, names: Sequence[str]) -> None:
        before = self._segments
        named: set[int] = set()
        loaded: list[bytes] = []
        try:
            for name in names:
                self._pack_records(load_file(bank, key, name), loaded, named)
                if len(loaded) >= _LOADED_AT_ONCE:
                    self._add_segment(loaded)
                    loaded = []
            self._add_segment(loaded)
        except BaseException:
            self._segments = before
            raise
        self._named |= named
        self._files.update(names)

    def clear(self) -> None:
        """Forget everything, pack numbers too."""
        self._segments, self._packs, self._pack_numbers = (), [], {}
        self._named, self._files = set(), set()

    def add_file(self, file_id: str, packs: Sequence[tuple[bytes, Sequence[PackedBlob]]]) -> None:
        """Take in an index file that this process has just stored."""
        records: list[bytes] = []
        self._pack_records(packs, records, self._named)
        self._add_segment(records)
        self._files.add(file_id)

    def _pack_records(
        self,
        packs: Iterable[tuple[bytes, Sequence[PackedBlob]]],
        records: list[bytes],
        named: set[int],
    ) -> None:
        for pack_id, blobs in packs:
            number = self._pack_numbers.get(pack_id)
            if number is None:
                number = self._pack_numbers[pack_id] = len(self._packs)
                self._packs.append(pack_id)
            named.add(number)
            records.extend(
                _RECORD.pack(blob.id, blob.type, number, blob.offset, blob.length, blob.unpacked)
                for blob in blobs
            )

    def _add_segment(self, records: list[bytes]) -> None:
        if not records:
            return
        segments = list(self._segments)
        former: list[_Segment] = []
        count = len(records)
        while segments and segments[-1].count <= 4 * count:
            former.append(segments.pop())
            count += former[-1].count
        segments.append(_Segment(records, former))
        self._segments = tuple(segments)

    def has(self, blob_id: bytes, blob_type: BlobType) -> bool:
        """Whether some pack holds this blob."""
        return self.pack_number(blob_id, blob_type) >= 0

    def pack_number(self, blob_id: bytes, blob_type: BlobType) -> int:
        """The number (see ``packs``) of a pack that holds this blob, or -1. The cheapest lookup there is."""
        prefix = _prefix(blob_id, blob_type)
        for segment in self._segments:
            record = segment.find(prefix)[1]
            if record:
                return _number_of(record)
        return -1

    def _location(self, record: bytes) -> Location:
        blob_id, kind, number, offset, length, unpacked = _RECORD.unpack(record)
        return Location(self._packs[number], PackedBlob(blob_id, BlobType(kind), offset, length, unpacked))

    def locations(self, blob_id: bytes, blob_type: BlobType) -> Iterator[Location]:
        """Every place where this blob stands."""
        prefix = _prefix(blob_id, blob_type)
        for segment in self._segments:
            for _, record in segment.matches(prefix):
                yield self._location(record)

    def has_entry(self, pack_id: bytes, blob: PackedBlob) -> bool:
        """Whether the index says that this pack holds this blob at this place."""
        number = self._pack_numbers.get(pack_id, -1)
        if number < 0:
            return False
        record = _RECORD.pack(blob.id, blob.type, number, blob.offset, blob.length, blob.unpacked)
        return any(segment.find(record)[1] for segment in self._segments)

    def find(self, blob_id: bytes, blob_type: BlobType) -> Location | None:
        """One place where this blob stands, or None."""
        return next(self.locations(blob_id, blob_type), None)

    def __iter__(self) -> Iterator[Location]:
        """Every entry, by segment and then by blob id."""
        for segment in self._segments:
            yield from map(self._location, segment)

    @property
    def packs(self) -> Sequence[bytes]:
        """Ids of all packs that the index has named since it was opened; ``pack_number`` counts in it."""
        return self._packs

    def is_named(self, number: int) -> bool:
        """Whether an index file names this pack as of the last refresh."""
        return number in self._named

    def number_of(self, pack_id: bytes) -> int:
        """The number of a pack that is named as of the last refresh, or -1."""
        number = self._pack_numbers.get(pack_id, -1)
        return number if number in self._named else -1

    def republish(
        self, bank: Bank, key: Key, pack_ids: Iterable[bytes], *, held: Callable[[], None] = lambda: None
    ) -> None:
        """Name packs again that are on the bank and in no index file (a prune took them out).

        Durable on return. Their headers say what they hold; ``BankObjectMissingError`` or ``DamagedError``
        when one is not whole. ``held`` as in ``save_file``.
        """
        packs: list[tuple[bytes, Sequence[PackedBlob]]] = [
            (pack_id, read_header(bank, key, pack_id, bank.size(pack_key(pack_id)))) for pack_id in pack_ids
        ]
        if packs:
            self.add_file(save_file(bank, key, packs, held=held), packs)


class Marks:
    """A bit for each entry of an index that does not change meanwhile: an eighth of a byte a blob."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._segments = index._segments
        self._bits = [bytearray(segment.count // 8 + 1) for segment in self._segments]

    def add(self, blob_id: bytes, blob_type: BlobType, pack_id: bytes | None = None) -> bool:
        """Mark the blob's first entry, or the one in ``pack_id``; whether it was not marked before.

        ``KeyError`` when there is no such entry.
        """
        for bits, number, record in self._entries(blob_id, blob_type):
            if pack_id is None or pack_id == self._index.packs[_number_of(record)]:
                is_new = not bits[number >> 3] >> (number & 7) & 1
                bits[number >> 3] |= 1 << (number & 7)
                return is_new
        raise KeyError(blob_id)

    def has(self, blob_id: bytes, blob_type: BlobType, pack_id: bytes | None = None) -> bool:
        """Whether any entry of the blob is marked, or one in ``pack_id``."""
        return any(
            bits[number >> 3] >> (number & 7) & 1
            and (pack_id is None or pack_id == self._index.packs[_number_of(record)])
            for bits, number, record in self._entries(blob_id, blob_type)
        )

    def _entries(self, blob_id: bytes, blob_type: BlobType) -> Iterator[tuple[bytearray, int, bytes]]:
        prefix = _prefix(blob_id, blob_type)
        for segment, bits in zip(self._segments, self._bits, strict=True):
            for number, record in segment.matches(prefix):
                yield bits, number, record

    def used_bytes(self) -> tuple[array[int], array[int]]:
        """By pack number: stored bytes of its marked entries, and how many these are."""
        sizes, counts = (array("Q", bytes(8 * len(self._index.packs))) for _ in range(2))
        for segment, bits in zip(self._segments, self._bits, strict=True):
            for entry, record in enumerate(segment):
                if bits[entry >> 3] >> (entry & 7) & 1:
                    number = _number_of(record)
                    sizes[number] += int.from_bytes(record[42:46], "little")
                    counts[number] += 1
        return sizes, counts


def _prefix(blob_id: bytes, blob_type: BlobType) -> bytes:
    return blob_id + (b"\x01" if blob_type else b"\x00")


def _number_of(record: bytes) -> int:
    return int.from_bytes(record[34:38], "little")
