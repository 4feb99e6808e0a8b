# SPDX-License-Identifier: Apache-2.0
"""A busy SQLite database whose every consistent copy can be told from a torn one.

Each transaction adds one transfer and two entries that sum to zero, and chains a digest over all transfers so
far. A copy taken in the middle of a transaction, or put together from two moments, breaks a sum or the chain.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path


def create(path: Path) -> None:
    """An empty ledger in WAL mode."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(
            """
            CREATE TABLE transfer (number INTEGER PRIMARY KEY, digest TEXT NOT NULL);
            CREATE TABLE entry (
                number INTEGER NOT NULL REFERENCES transfer, account TEXT NOT NULL, amount INTEGER NOT NULL
            );
            """
        )
    connection.close()


def _digest(former: str, number: int) -> str:
    return hashlib.sha256(f"{former}/{number}".encode()).hexdigest()


def audit(path: Path) -> int:
    """How many transfers the ledger holds; ``ValueError`` when it is torn."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        if (found := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            raise ValueError(f"{path}: {found}")
        digest, count = "", 0
        for number, stored in connection.execute("SELECT number, digest FROM transfer ORDER BY number"):
            count += 1
            digest = _digest(digest, count)
            if (number, stored) != (count, digest):
                raise ValueError(f"{path}: transfer {number} does not follow from the one before")
        entries, total = connection.execute("SELECT count(*), coalesce(sum(amount), 0) FROM entry").fetchone()
        if (entries, total) != (2 * count, 0):
            raise ValueError(f"{path}: {count} transfers have {entries} entries that sum to {total}")
        return count
    finally:
        connection.close()


def rows(path: Path) -> list[tuple[object, ...]]:
    """All rows of both tables, for comparing two ledgers."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [
            *connection.execute("SELECT number, digest FROM transfer ORDER BY number"),
            *connection.execute("SELECT number, account, amount FROM entry ORDER BY number, account"),
        ]
    finally:
        connection.close()


class Writer:
    """Keeps adding transfers from a thread until stopped."""

    def __init__(self, path: Path, *, pause_s: float = 0.005) -> None:
        self._path = path
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="ledger-writer", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the transaction at hand; raises what the writer met, if anything."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        try:
            connection = sqlite3.connect(self._path, timeout=30)
            try:
                row = connection.execute(
                    "SELECT number, digest FROM transfer ORDER BY number DESC LIMIT 1"
                ).fetchone()
                number, digest = row or (0, "")
                while not self._stop.wait(self._pause_s):
                    number += 1
                    digest = _digest(digest, number)
                    with connection:
                        connection.execute("INSERT INTO transfer VALUES (?, ?)", (number, digest))
                        connection.execute("INSERT INTO entry VALUES (?, 'from', ?)", (number, -number))
                        connection.execute("INSERT INTO entry VALUES (?, 'to', ?)", (number, number))
            finally:
                connection.close()
        except BaseException as error:  # noqa: BLE001 - kept for the story's thread, which raises it
            self._failure = error
