# SPDX-License-Identifier: Apache-2.0
"""Ahead: the blobs of files are read and opened by threads before they are asked for.

What is wanted is planned together: blobs that are neighbours in a pack are one request, and requests go out
in the order of need, several at a time, so that a bank far away is not waited for blob by blob. Large blobs
are decrypted, unpacked and checked by the threads (the hash, the codec and the reads run beside Python);
small ones when they are taken, for a change of threads costs more than they do.

What is read and not yet taken is bounded (``Reach``); one request more is made only when it is waited for.
A blob that could not be had in this way is asked of the ``Reader``, which knows the other places where it may
stand, and says what is wrong.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from seawall.core.errors import DamagedError
from seawall.repository.pack import BlobType, PackedBlob
from seawall.repository.reader import WINDOW_BYTES, Reader

_LARGE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reach:
    """How far ahead, and in which pieces. ``range_bytes`` are asked for at once, at most (a larger blob is a
    request of its own); ``gap_bytes`` between two wanted blobs are read with them; ``budget_bytes`` are read
    and not yet taken; contents of less than ``least_bytes`` are not worth it."""

    threads: int
    range_bytes: int
    gap_bytes: int
    budget_bytes: int
    least_bytes: int


# A folder of this host: a request costs nothing, and pieces that stay in the processor's cache are cheapest.
_NEAR: Final = Reach(2, 1024 * 1024, 64 * 1024, 16 * 1024 * 1024, _LARGE_BYTES)
# All else: a request may take as long as a megabyte.
_FAR: Final = Reach(6, 4 * 1024 * 1024, 256 * 1024, 64 * 1024 * 1024, 0)


class _Want:
    """A blob and who still needs it. ``content`` is sealed until ``is_open``, None when it was not had."""

    __slots__ = ("blob", "content", "is_open", "range", "uses")

    def __init__(self, blob: PackedBlob) -> None:
        self.blob = blob
        self.uses = 0
        self.range: _Range | None = None
        self.content: bytes | memoryview | None = None
        self.is_open = False


class _Range:
    """A part of a pack, asked for by one request."""

    __slots__ = ("cost", "is_begun", "is_done", "left", "length", "offset", "pack_id", "wants")

    def __init__(self, pack_id: bytes, wants: list[_Want]) -> None:
        self.pack_id = pack_id
        self.wants = wants
        self.offset = wants[0].blob.offset
        self.length = max(one.blob.offset + one.blob.length for one in wants) - self.offset
        self.left = len(wants)
        self.cost = self.length + sum(one.blob.size for one in wants if one.blob.length >= _LARGE_BYTES)
        self.is_begun = False
        self.is_done = False


class Wanted:
    """The content of one file: iterate it once, or ``drop`` it."""

    def __init__(self, ahead: Ahead, blob_ids: Sequence[bytes], *, is_planned: bool) -> None:
        self._ahead = ahead
        self._blob_ids = blob_ids
        self._is_planned = is_planned
        self._taken = 0

    def __iter__(self) -> Iterator[bytes]:
        """Its blobs in order; ``DamagedError`` where one cannot be read."""
        for blob_id in self._blob_ids:
            self._taken += 1
            yield self._ahead.take(blob_id) if self._is_planned else self._ahead.read(blob_id)

    def drop(self) -> None:
        """The rest is not needed. May be called twice."""
        left = self._blob_ids[self._taken :] if self._is_planned else ()
        self._taken = len(self._blob_ids)
        for blob_id in left:
            self._ahead.release(blob_id)


class Ahead:
    """Use as a context manager, from one thread. Its threads end after the request they are at."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._reach = _NEAR if reader.is_near else _FAR
        self._wants: dict[bytes, _Want] = {}
        self._places: dict[bytes, list[_Want]] = {}
        self._changed = threading.Condition()
        # Under the lock of `_changed`:
        self._queue: deque[_Range] = deque()
        self._urgent: _Range | None = None
        self._used_bytes = 0
        self._is_ended = False
        self._is_started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_ended = True
            self._queue.clear()
            self._changed.notify_all()

    # --- the side that asks ------------------------------------------------------------------------

    def want(self, blob_ids: Sequence[bytes], size: int) -> Wanted:
        """Data blobs of ``size`` bytes together that will be taken in this order, asked for from the next
        ``go`` on."""
        if size < self._reach.least_bytes:
            return self.unplanned(blob_ids)
        for blob_id in blob_ids:
            want = self._wants.get(blob_id)
            if want is None:
                location = self.reader.find(blob_id)
                if location is None:
                    continue  # the reader says so when it is taken
                want = self._wants[blob_id] = _Want(location.blob)
                self._places.setdefault(location.pack_id, []).append(want)
            want.uses += 1
        return Wanted(self, blob_ids, is_planned=True)

    def unplanned(self, blob_ids: Sequence[bytes]) -> Wanted:
        """Data blobs that will hardly be needed; nothing is done for them before they are taken."""
        return Wanted(self, blob_ids, is_planned=False)

    def now(self, blob_ids: Sequence[bytes], size: int) -> Wanted:
        """The content of one file that is taken at once.

        What is less than a window of the reader is left to that, for it reads neighbours too.
        """
        if size < WINDOW_BYTES:
            return self.unplanned(blob_ids)
        wanted = self.want(blob_ids, size)
        self.go()
        return wanted

    def go(self) -> None:
        """Begin to read what was wanted since this was called before."""
        order = {id(want): number for number, want in enumerate(self._wants.values())}
        planned = [
            one
            for pack_id, wants in self._places.items()
            for one in _ranges(pack_id, wants, order, self._reach)
        ]
        self._places = {}
        if not planned:
            return
        planned.sort(key=lambda one: min(order[id(want)] for want in one.wants))
        for one in planned:
            for want in one.wants:
                want.range = one
        with self._changed:
            self._queue.extend(planned)
            self._changed.notify_all()
        if not self._is_started:
            self._is_started = True
            for number in range(self._reach.threads):
                # Nobody waits for them: they write nothing, and a bank may keep them for minutes.
                threading.Thread(target=self._work, name=f"ahead-{number}", daemon=True).start()

    def take(self, blob_id: bytes) -> bytes:
        """One use of a wanted blob; waits for it. ``DamagedError`` when it cannot be read."""
        want = self._wants.get(blob_id)
        if want is None or want.range is None:
            return self.read(blob_id)
        if not want.range.is_done:
            self._wait(want.range)
        content, is_open = want.content, want.is_open
        try:
            if content is None:
                return self.read(blob_id)
            if is_open:
                assert isinstance(content, bytes)
                return content
            return self.reader.open(content, want.blob)
        except DamagedError:
            return self.read(blob_id)
        finally:
            self.release(blob_id)

    def read(self, blob_id: bytes) -> bytes:
        """A blob from the reader, wherever it stands."""
        return self.reader.blob(blob_id, BlobType.DATA)

    def release(self, blob_id: bytes) -> None:
        """One use of a wanted blob less."""
        want = self._wants.get(blob_id)
        if want is None:
            return
        want.uses -= 1
        if want.uses:
            return
        del self._wants[blob_id]
        found = want.range
        if found is None:  # dropped before it was planned
            return
        with self._changed:
            want.content = None
            found.left -= 1
            if found.left:
                return
            if found.is_begun:
                if found.is_done:
                    self._give_back(found)
            else:
                self._queue.remove(found)

    def _wait(self, wanted: _Range) -> None:
        with self._changed:
            while not wanted.is_done:
                self._urgent = wanted
                self._changed.notify_all()
                self._changed.wait()
            self._urgent = None

    # --- the threads -------------------------------------------------------------------------------

    def _work(self) -> None:
        while (found := self._next()) is not None:
            try:
                self._fill(found)
            except Exception:  # noqa: BLE001 - whatever it is: the reader is asked again, and raises it
                pass
            finally:
                with self._changed:
                    found.is_done = True
                    if not found.left:
                        self._give_back(found)
                    self._changed.notify_all()

    def _next(self) -> _Range | None:
        with self._changed:
            while not self._is_ended:
                found = self._urgent
                if found is not None and not found.is_begun:
                    self._queue.remove(found)
                    break
                if self._queue and self._has_room(self._queue[0]):
                    found = self._queue.popleft()
                    break
                self._changed.wait()
            else:
                return None
            found.is_begun = True
            self._used_bytes += found.cost
            return found

    def _has_room(self, wanted: _Range) -> bool:
        return not self._used_bytes or self._used_bytes + wanted.cost <= self._reach.budget_bytes

    def _give_back(self, found: _Range) -> None:
        for want in found.wants:
            want.content = None
        self._used_bytes -= found.cost
        self._changed.notify_all()

    def _fill(self, found: _Range) -> None:
        content = memoryview(self.reader.fetch(found.pack_id, found.offset, found.length))
        for want in found.wants:
            start = want.blob.offset - found.offset
            sealed = content[start : start + want.blob.length]
            if want.blob.length < _LARGE_BYTES:
                want.content = sealed
                continue
            try:
                opened = self.reader.open(sealed, want.blob)
            except DamagedError:
                continue  # as above
            want.is_open = True
            want.content = opened


def _ranges(pack_id: bytes, wants: list[_Want], order: dict[int, int], reach: Reach) -> Iterator[_Range]:
    """Neighbours together."""
    wants.sort(key=lambda one: one.blob.offset)
    part: list[_Want] = []
    begin = end = 0
    for want in (one for one in wants if id(one) in order):
        blob = want.blob
        is_far = blob.offset > end + reach.gap_bytes
        if part and (is_far or blob.offset + blob.length - begin > reach.range_bytes):
            yield _Range(pack_id, part)
            part = []
        if not part:
            begin = end = blob.offset
        part.append(want)
        end = max(end, blob.offset + blob.length)
    if part:
        yield _Range(pack_id, part)
