# SPDX-License-Identifier: Apache-2.0
"""Check: what is damaged, down to the snapshots and files that it touches.

Structure: every index file reads, every pack that it names is there in the length that its blobs add up to,
every snapshot and every tree reads, every blob that they name stands in a pack. Data, for all packs or for a
rolling sample: the pack is what was written, its header agrees with the index, and every blob decrypts to the
content that its id says. Structure alone does not notice a flipped bit.

Memory holds the index, one line for each pack, two packs at a time and one bit for each blob. Nothing is
changed. What writers and a two-phase prune do meanwhile is no damage; a prune that deletes at once must not
run beside it, so the caller holds a shared lock.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from seawall.core.errors import BankObjectMissingError, DamagedError, InvalidInputError
from seawall.repository import codec, index, nodes, snapshot
from seawall.repository.codec import parse_id
from seawall.repository.crypto import OVERHEAD_BYTES, Key
from seawall.repository.faults import Fault
from seawall.repository.index import Index, Marks
from seawall.repository.pack import (
    MAX_PACK_BYTES,
    BlobType,
    PackedBlob,
    check_blob,
    pack_key,
    parse_header,
)
from seawall.repository.quoting import unquote
from seawall.repository.reader import Reader
from seawall.repository.walk import READ_DEPTH
from seawall.sdk.bank import Bank

Progress = Callable[[int, int], None]
Note = Callable[[str], None]

MAX_FAULTS: Final = 10_000
"""So many are listed; a last one says that there are more."""
_WORKERS: Final = 2
_PLAIN_ENTRY: Final = 37
_PACKED_ENTRY: Final = 41


def pack_bytes(blobs: Sequence[PackedBlob]) -> int:
    """The length of a pack with exactly these blobs."""
    entries = sum(_PACKED_ENTRY if blob.unpacked else _PLAIN_ENTRY for blob in blobs)
    return sum(blob.length for blob in blobs) + entries + OVERHEAD_BYTES + 4


class _FullError(Exception):
    """Enough faults are listed."""


class Check:
    """One check of one repository."""

    def __init__(self, bank: Bank, key: Key, *, progress: Progress | None, note: Note | None) -> None:
        self._bank = bank
        self._key = key
        self._progress = progress
        self._note = note or (lambda _: None)
        self._index = Index()
        self._reader = Reader(bank, key, self._index)
        self._faults: list[Fault] = []
        self._lost_packs: set[bytes] = set()
        self._short_packs: dict[bytes, int] = {}
        self._bad_blobs: set[tuple[bytes, bytes]] = set()
        self._counts = array("I")
        self._done = [0, 0]
        self._clean: Marks

    @property
    def damaged_packs(self) -> frozenset[bytes]:
        """Packs that are there but not whole, as far as this check has looked."""
        return frozenset(self._short_packs) | {pack_id for pack_id, _ in self._bad_blobs}

    def run(self, *, read_data: bool, sample: tuple[int, int] | None) -> list[Fault]:
        """All that is wrong, packs first, then what each snapshot has lost by it."""
        if sample is not None and not 0 <= sample[0] < sample[1]:
            raise InvalidInputError.of("sample", sample, "must be (n, of) with 0 <= n < of")
        try:
            snapshots = list(self._snapshots())  # first, so that the index read next has all they need
            self._take_index()
            sizes = self._compare_packs()
            if read_data or sample is not None:
                self._read_packs(sizes, sample)
            self._clean = Marks(self._index)
            for one in snapshots:
                root = bytes.fromhex(one.tree)
                self._tree(root, f"snapshot {one.id[:8]}:", 0)
        except _FullError:
            self._faults.append(Fault("", f"there are more than {MAX_FAULTS} faults; the rest is not listed"))
        return self._faults

    def _fault(self, path: str, reason: str) -> None:
        if len(self._faults) >= MAX_FAULTS:
            raise _FullError
        self._faults.append(Fault(path, reason))

    # --- index and packs -------------------------------------------------------------------------

    def _take_index(self) -> None:
        for _ in range(10):
            self._index.clear()
            self._counts = array("I")
            self._expected: dict[bytes, int] = {}
            try:
                doubles = sum(self._take_file(item.key) for item in list(self._bank.list(index.PREFIX)))
            except BankObjectMissingError:
                continue  # a prune is replacing the files: list them again
            if doubles:
                self._note(
                    f"{doubles} packs stand in several index files, which is harmless; prune tidies up"
                )
            return
        raise DamagedError("the index files keep vanishing while they are read; is another prune running?")

    def _take_file(self, place: str) -> int:
        """Take in one index file; how many of its packs another file had."""
        file_id = place.removeprefix(index.PREFIX)
        try:
            packs = index.load_file(self._bank, self._key, file_id)
        except DamagedError as error:
            self._fault(place, str(error))
            return 0
        fresh = []
        for pack_id, blobs in packs:
            length = pack_bytes(blobs)
            before = self._expected.get(pack_id)
            if before is None:
                self._expected[pack_id] = length
                self._counts.append(len(blobs))
                fresh.append((pack_id, blobs))
            elif before != length:
                self._fault(place, f"lists pack {pack_id.hex()[:16]} otherwise than another index file")
        self._index.add_file(file_id, fresh)
        return len(packs) - len(fresh)

    def _compare_packs(self) -> dict[bytes, int]:
        sizes = pack_sizes(self._bank, self._note)
        for pack_id, length in self._expected.items():
            found = sizes.get(pack_id)
            if found == length:
                continue
            if found is None:
                self._lost_packs.add(pack_id)
                self._fault(pack_key(pack_id), "is missing")
            else:
                self._short_packs[pack_id] = found
                self._fault(pack_key(pack_id), f"has {found} bytes, expected {length}")
        left = len(sizes.keys() - self._expected.keys())
        if left:
            self._note(f"{left} packs are in no index: of a running or killed backup, or left by a prune")
        return sizes

    # --- data ------------------------------------------------------------------------------------

    def _read_packs(self, sizes: dict[bytes, int], sample: tuple[int, int] | None) -> None:
        chosen = [
            pack_id
            for pack_id in sorted(self._expected)
            if pack_id in sizes and (sample is None or in_sample(pack_id, *sample))
        ]
        waiting: deque[Future[list[Fault]]] = deque()
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="check") as workers:
            try:
                for pack_id in chosen:
                    if len(waiting) >= _WORKERS:
                        self._take_result(waiting.popleft())
                    waiting.append(workers.submit(self._read_pack, pack_id, sizes[pack_id]))
                while waiting:
                    self._take_result(waiting.popleft())
            finally:
                for future in waiting:
                    future.cancel()

    def _take_result(self, future: Future[list[Fault]]) -> None:
        for fault in future.result():
            self._fault(fault.path, fault.reason)
        if self._progress is not None:
            self._progress(*self._done)

    def _read_pack(self, pack_id: bytes, size: int) -> list[Fault]:
        """What is wrong with one pack. In a worker: touches only what no other worker changes at once."""
        where = pack_key(pack_id)
        what = f"pack {pack_id.hex()[:16]}"
        if size > MAX_PACK_BYTES:
            self._bad_blobs.add((pack_id, b""))
            return [Fault(where, f"has {size} bytes; a pack has at most {MAX_PACK_BYTES}")]
        try:
            content = self._bank.get(where, length=size + 1)
        except BankObjectMissingError:
            self._lost_packs.add(pack_id)
            return [Fault(where, "vanished while it was checked")]
        self._done[0] += len(content)
        self._done[1] += 1
        faults = []
        is_whole = codec.content_id(content) == pack_id
        if not is_whole:
            faults.append(Fault(where, "its bytes have another id"))
        blobs: Sequence[PackedBlob]
        try:
            header = parse_header(self._key, content, len(content), what)
            assert isinstance(header, list)  # the whole pack is given
            blobs = header
        except DamagedError as error:
            faults.append(Fault(where, str(error)))
            blobs = [place.blob for place in self._index if place.pack_id == pack_id]
        view = memoryview(content)
        bad = 0
        for blob in blobs:
            try:
                check_blob(self._key, view[blob.offset : blob.offset + blob.length], blob)
                self._compare_entry(pack_id, blob)
            except DamagedError as error:
                bad += 1
                self._bad_blobs.add((pack_id, blob.id))
                faults.append(Fault(where, str(error)))
        if len(blobs) != self._counts[self._index.number_of(pack_id)]:
            self._bad_blobs.add((pack_id, b""))
            faults.append(Fault(where, f"holds {len(blobs)} blobs and the index lists another number"))
        if not is_whole and not bad:
            self._bad_blobs.add((pack_id, b""))  # only the header is hurt: nothing is lost yet
        return faults

    def _compare_entry(self, pack_id: bytes, blob: PackedBlob) -> None:
        if not self._index.has_entry(pack_id, blob):
            raise DamagedError(f"blob {blob.id.hex()[:16]} stands elsewhere by the index")

    # --- snapshots, trees, files -----------------------------------------------------------------

    def _snapshots(self) -> Iterator[snapshot.Snapshot]:
        for item in list(self._bank.list(snapshot.PREFIX)):
            try:
                yield snapshot.load(self._bank, self._key, item.key.removeprefix(snapshot.PREFIX))
            except BankObjectMissingError:
                continue  # forgotten since it was listed
            except DamagedError as error:
                self._fault(item.key, str(error))

    def _is_lost(self, blob_id: bytes, blob_type: BlobType) -> str:
        """Why a blob cannot be read, or nothing."""
        if not (self._lost_packs or self._short_packs or self._bad_blobs) and self._index.has(
            blob_id, blob_type
        ):
            return ""
        reason = f"{blob_type.word} blob {blob_id.hex()[:16]} is in no index"
        for place in self._index.locations(blob_id, blob_type):
            name = f"pack {place.pack_id.hex()[:16]}"
            if place.pack_id in self._lost_packs:
                reason = f"{name} is missing"
            elif place.blob.offset + place.blob.length > self._short_packs.get(place.pack_id, 2**63):
                reason = f"{name} is cut off"
            elif (place.pack_id, blob_id) in self._bad_blobs:
                reason = f"{name} is damaged where it holds {blob_type.word} blob {blob_id.hex()[:16]}"
            else:
                return ""
        return reason

    def _tree(self, tree_id: bytes, path: str, depth: int) -> bool:
        """Look at a tree and all below; whether it is whole. Whole ones are looked at once in all."""
        if self._clean.has(tree_id, BlobType.TREE):
            return True
        try:
            if depth > READ_DEPTH:
                raise DamagedError(f"lies more than {READ_DEPTH} folders deep")
            if reason := self._is_lost(tree_id, BlobType.TREE):
                raise DamagedError(reason)
            is_whole = True
            for entry in self._reader.entries(tree_id):
                is_whole &= self._entry(entry, path, depth)
        except DamagedError as error:
            self._fault(path, str(error))
            return False
        if is_whole:
            self._clean.add(tree_id, BlobType.TREE)
        return is_whole

    def _entry(self, entry: Any, path: str, depth: int) -> bool:
        try:
            name = unquote(entry["name"]).decode("utf-8", "backslashreplace")
            below = f"{path}/{name}" if not path.endswith("/") else path + name
            content = [parse_id(blob_id) for blob_id in entry.get("content") or ()]
            subtree = parse_id(entry["subtree"]) if entry.get("subtree") else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"holds an entry that is no node: {error!r}") from None
        if entry.get("type") == nodes.DIR:
            if subtree is None:
                self._fault(below, "is a folder without a tree")
                return False
            return self._tree(subtree, below, depth + 1)
        for blob_id in content:
            if reason := self._is_lost(blob_id, BlobType.DATA):
                self._fault(below, reason)
                return False
        return True


def in_sample(pack_id: bytes, number: int, of: int) -> bool:
    """Whether a pack belongs to part ``number`` of ``of``. Each pack belongs to exactly one part."""
    return int.from_bytes(pack_id[:8], "big") % of == number


def pack_sizes(bank: Bank, note: Note | None = None) -> dict[bytes, int]:
    """Pack id -> length of every pack on the bank; what is no pack is noted and left out."""
    sizes = {}
    for item in bank.list("data/"):
        name = item.key.rpartition("/")[2]
        try:
            pack_id = bytes.fromhex(name)
        except ValueError:
            pack_id = b""
        if len(pack_id) == 32 and pack_key(pack_id) == item.key:
            sizes[pack_id] = item.size_bytes
        elif note is not None:
            note(f"{item.key} is no pack and is left alone")
    return sizes
