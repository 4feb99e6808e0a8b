# SPDX-License-Identifier: Apache-2.0
"""Every protectable keeps the contract; directories and databases are listed as their parameters say."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from seawall.core.errors import ForbiddenError, InvalidInputError
from seawall.protection.protectables.directory import Directory
from seawall.protection.protectables.sqlite import Sqlite
from seawall.runtime import json_schema
from seawall.sdk.protection import Protectable
from seawall.sdk.testing.protectable_suite import ProtectableSuite


def make_database(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return str(path)


class TestDirectory(ProtectableSuite):
    def make_protectable(self) -> Protectable:
        return Directory()

    def make_resource(self, folder: Path, name: str) -> str:
        (folder / name).mkdir()
        return str(folder / name)

    def make_other(self, folder: Path, name: str) -> str | None:
        (folder / name).write_text("a file")
        return str(folder / name)


class TestSqlite(ProtectableSuite):
    def make_protectable(self) -> Protectable:
        return Sqlite()

    def make_resource(self, folder: Path, name: str) -> str:
        return make_database(folder / name)

    def make_other(self, folder: Path, name: str) -> str | None:
        (folder / name).write_text("SQLite format 3 is what this text is not, however it begins")
        return str(folder / name)


def ids(protectable: Protectable, *roots: Path, **parameters: object) -> list[str]:
    schema = protectable.instances_schema  # type: ignore[attr-defined]  # both have one
    assert json_schema.faults(schema, parameters, "parameters") == []
    return [one.id for one in protectable.instances(roots, parameters)]


def test_directories_are_the_roots_or_those_in_a_path(tmp_path: Path) -> None:
    for name in ("b/inner", "a", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    assert ids(Directory(), tmp_path / "b", tmp_path / "a", tmp_path / "no") == [
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]
    assert ids(Directory(), tmp_path, path=str(tmp_path)) == [str(tmp_path / name) for name in "abc"]
    assert ids(Directory(), tmp_path, path=f"{tmp_path}/b/") == [str(tmp_path / "b" / "inner")]
    with pytest.raises(InvalidInputError, match="must be a directory"):
        ids(Directory(), tmp_path, path=str(tmp_path / "file"))
    with pytest.raises(ForbiddenError):
        ids(Directory(), tmp_path / "a", path=str(tmp_path / "b"))


def test_databases_are_found_by_their_header_whatever_their_name(tmp_path: Path) -> None:
    deep = tmp_path / "1" / "2" / "3"
    deep.mkdir(parents=True)
    names = [
        make_database(tmp_path / "app"),
        make_database(tmp_path / "1" / "x.txt"),
        make_database(deep / "d.db"),
    ]
    (tmp_path / "fake.db").write_text("no database")
    (tmp_path / "link.db").symlink_to("app")
    (tmp_path / "empty.db").touch()
    assert ids(Sqlite(), tmp_path) == [names[2], names[1], names[0]]
    assert ids(Sqlite(), tmp_path, depth=1) == [names[1], names[0]]
    assert ids(Sqlite(), tmp_path, depth="0") == [names[0]]
    assert ids(Sqlite(), tmp_path, path=str(deep)) == [names[2]]
    assert ids(Sqlite(), tmp_path, path=names[0]) == [names[0]]
    (found,) = Sqlite().instances([tmp_path], {"path": str(deep)})
    assert found.extra_info == {"size_bytes": Path(names[2]).stat().st_size}


def test_a_search_that_would_take_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seawall.protection.protectables.sqlite._MOST_ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    with pytest.raises(InvalidInputError, match="name a smaller folder"):
        ids(Sqlite(), tmp_path)


@pytest.mark.parametrize("depth", [-1, 33, "x", "999", 1.5, None])
def test_a_bad_depth_is_refused(depth: object) -> None:
    assert json_schema.faults(Sqlite.instances_schema, {"depth": depth}, "parameters")
    assert json_schema.faults(Directory.instances_schema, {"depth": 1}, "parameters")
