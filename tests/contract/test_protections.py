# SPDX-License-Identifier: Apache-2.0
"""Every protection keeps the contract on a real repository, and leaves nothing visible when it is killed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from demo.evidence import photograph
from seawall.core.errors import ConflictError, MoverDiedError, SourceError
from seawall.protection.banks.file import FileBank
from seawall.protection.movers.pool import MoverPool
from seawall.protection.plugins.directory import DirectoryProtection
from seawall.protection.plugins.sqlite import SqliteProtection
from seawall.repository import Repository
from seawall.sdk.protection import TreeReader, TreeWriter
from seawall.sdk.testing.protection_suite import ProtectionSuite, Store
from tests.repository.conftest import OpenLock, fresh

DEEP = 300


class RealStore:
    """A repository in files."""

    def __init__(self, folder: Path) -> None:
        self._repository: Repository = fresh(FileBank(path=str(folder)))

    @contextmanager
    def writer(self) -> Iterator[TreeWriter]:
        with self._repository.writer(OpenLock()) as writer:
            yield writer
            writer.flush()

    @property
    def reader(self) -> TreeReader:
        return self._repository


def make_folder(folder: Path, name: str) -> str:
    made = folder / name
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "big").write_bytes(os.urandom(3_000_000))
    (made / "odd\nname \udcff").write_bytes(b"odd")
    (made / "empty").touch(0o640)
    (made / "link").symlink_to("inner/big")
    os.link(made / "empty", made / "hard")
    os.utime(made / "empty", ns=(1, 1_234_567_890_123_456_789))
    made.chmod(0o750)
    return str(made)


class TestDirectory(ProtectionSuite):
    protection = DirectoryProtection
    good_parameters = ({}, {"excludes": ["cache", "/a"]})
    bad_parameters = ({"excludes": "cache"}, {"excludes": [""]}, {"excludes": [1]})
    good_options = ({}, {"paths": ["a/b"], "overwrite": "keep"}, {"overwrite": "replace"})
    bad_options = ({"paths": "a"}, {"overwrite": "perhaps"}, {"skip": 1})

    def make_store(self, folder: Path) -> Store:
        return RealStore(folder)

    def make_source(self, folder: Path, name: str) -> str:
        return make_folder(folder, name)

    def change_source(self, resource_id: str) -> None:
        (Path(resource_id) / "inner" / "big").write_bytes(b"smaller")

    def content_of(self, path: Path) -> object:
        return photograph(path)

    def make_other(self, folder: Path, name: str) -> str:
        (folder / name).write_text("a file")
        return str(folder / name)

    def make_empty(self, folder: Path, name: str) -> str | None:
        (folder / name).mkdir()
        return str(folder / name)

    def make_faulty(self, folder: Path, name: str) -> tuple[str, str] | None:
        """Deeper than is stored: the one fault that is met whoever runs the tests."""
        made = make_folder(folder, name)
        Path(made, *["d"] * DEEP).mkdir(parents=True)
        return made, "d/d/d/d"


def make_database(path: Path, *, rows: int = 2000) -> str:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x, y)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, os.urandom(500)) for n in range(rows)))
    return str(path)


class TestSqlite(ProtectionSuite):
    protection = SqliteProtection
    bad_parameters = ({"excludes": []},)
    good_options = ({}, {"replace_in_use": True})
    bad_options = ({"replace_in_use": "yes"},)

    def make_store(self, folder: Path) -> Store:
        return RealStore(folder)

    def make_source(self, folder: Path, name: str) -> str:
        return make_database(folder / name)

    def change_source(self, resource_id: str) -> None:
        with closing(sqlite3.connect(resource_id)) as connection, connection:
            connection.execute("DELETE FROM t WHERE x % 2 = 0")

    def content_of(self, path: Path) -> object:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT x, y FROM t ORDER BY x").fetchall()
        return path.stat().st_mode, found

    def make_other(self, folder: Path, name: str) -> str:
        (folder / name).write_bytes(b"SQLite format 3\0 is what this is not, however it begins" * 100)
        return str(folder / name)

    def make_empty(self, folder: Path, name: str) -> str | None:
        return None

    def make_faulty(self, folder: Path, name: str) -> tuple[str, str] | None:
        return None

    def test_a_damaged_database_is_an_error(self, root: Path, store: Store) -> None:
        source = Path(self.make_source(root, "one"))
        content = bytearray(source.read_bytes())
        content[4096 * 3 : 4096 * 40] = os.urandom(4096 * 37)
        source.write_bytes(content)
        with pytest.raises(SourceError, match="one"):
            self.protect(store, str(source), self.context(root))

    def test_a_database_in_use_is_replaced_only_when_that_is_said(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        before = self.content_of(Path(source))
        result = self.protect(store, source, self.context(root))
        self.change_source(source)
        with closing(sqlite3.connect(source, isolation_level=None)) as user:
            user.execute("BEGIN IMMEDIATE")
            user.execute("INSERT INTO t VALUES (-1, 'not committed')")
            with pytest.raises(ConflictError, match="in use"):
                self.restore(store, source, result.tree_id, root, None)
            user.execute("ROLLBACK")
            assert self.content_of(Path(source)) != before
            self.restore(store, source, result.tree_id, root, None, replace_in_use=True)
        assert self.content_of(Path(source)) == before


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "make"), [("directory", make_folder), ("sqlite", None)])
@pytest.mark.parametrize("point", ["repository.pack.before_put", "repository.snapshot.before_put"])
def test_a_mover_that_is_killed_leaves_nothing_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, make: object, point: str
) -> None:
    source = make_folder(tmp_path, "one") if make is not None else make_database(tmp_path / "one")
    place = {
        "repository_id": "r",
        "bank": "file",
        "bank_options": {"path": str(tmp_path / "bank")},
        "password": "p",
        "recovery_key": "q",
        "format_id": None,
        "may_create": True,
    }
    step = {
        "allowed_roots": [str(tmp_path)],
        "excludes": [],
        "resource": {"type": kind, "id": source, "name": "one"},
    }
    monkeypatch.setenv("SEAWALL_FAILPOINTS", f"{point}=kill")
    pool = MoverPool(1, scratch=tmp_path / "scratch")
    try:
        with pool.use(lambda: None) as doomed:
            doomed.call("begin", {"place": place})
            with pytest.raises(MoverDiedError):
                tree = doomed.call("protect", {**step, "scratch": str(doomed.scratch)})["tree_id"]
                doomed.call("commit", _commit(tree))
        monkeypatch.delenv("SEAWALL_FAILPOINTS")
        with pool.use(lambda: None) as mover:
            assert mover.call("snapshots", {"place": place}) == {"snapshots": []}
            mover.call("begin", {"place": place})
            tree = mover.call("protect", {**step, "scratch": str(mover.scratch)})["tree_id"]
            made = mover.call("commit", _commit(tree))["snapshot_id"]
            mover.call("end", {})
            found = mover.call("check", {"place": place, "snapshot_id": made, "deep": True})
        assert found == {"exists": True, "missing": None}
    finally:
        pool.close()


def _commit(tree: str) -> dict[str, object]:
    return {
        "resources": [{"folder": "one", "tree_id": tree}],
        "manifest": "{}",
        "hostname": "here",
        "paths": ["/one"],
        "tags": ["run:1"],
        "time": "2026-01-01T00:00:00+00:00",
        "summary": {},
    }
