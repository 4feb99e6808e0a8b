# SPDX-License-Identifier: Apache-2.0
"""What lies in a checkpoint can be looked at and loaded down, by whoever may, and holds it meanwhile."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from seawall.core.caller import Caller
from seawall.core.errors import (
    CancelledError,
    DamagedError,
    ForbiddenError,
    InvalidInputError,
    MoverDiedError,
    NotFoundError,
    StateError,
)
from seawall.core.records import Checkpoint
from seawall.db import audit, checkpoints, leases
from seawall.protection.downloads import IDLE_S, Download
from seawall.protection.movers.pool import MoverPool
from tests.protection.conftest import Side


class Taken:
    """Downloads of one checkpoint of a folder and a database."""

    def __init__(self, side: Side, folder: Path, pool: MoverPool) -> None:
        self.source = folder / "www"
        (self.source / "inner").mkdir(parents=True)
        (self.source / "index.html").write_text("hello")
        (self.source / "inner" / "large").write_bytes(os.urandom(3_000_000))
        (self.source / "inner" / os.fsdecode(b"odd\xff")).write_text("odd")
        (self.source / "link").symlink_to("inner/large")
        self.base = folder / "db" / "app.db"
        self.base.parent.mkdir()
        with sqlite3.connect(self.base) as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        self.side = side
        self.pool = pool
        plan = side.plan(("directory", self.source), ("sqlite", self.base))
        self.checkpoint = side.protect(plan)
        self.caller = Caller(side.project_id, "alice", is_admin=False)
        self.downloads = side.engine.downloads(pool)

    def of(self, path: str, kind: str = "tar") -> Download:
        assert kind in ("tar", "zip")
        return self.downloads.download(
            self.caller,
            self.side.provider_id,
            self.checkpoint.id,
            path=os.fsencode(path),
            format="tar" if kind == "tar" else "zip",
        )

    def names(self, path: str) -> list[str]:
        found, has_more = self.downloads.files(
            self.caller, self.side.provider_id, self.checkpoint.id, path=os.fsencode(path), limit=100
        )
        assert not has_more
        return [os.fsdecode(one.name) for one in found]

    @property
    def readers(self) -> list[str]:
        clock = self.side.database.clock
        return self.side.database.read(
            lambda c: list(leases.holders(c, checkpoints.reader_lease(self.checkpoint.id), clock.now()))
        )


def content(download: Download) -> bytes:
    parts = []
    while (piece := download.next()) is not None:
        parts.append(piece)
    download.close()
    return b"".join(parts)


def members(archive: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        return {
            one.name: file.read() if (file := found.extractfile(one)) and one.isfile() else None
            for one in found
        }


@pytest.fixture
def taken(side: Side, tmp_path: Path) -> Iterator[Taken]:
    pool = MoverPool(1, scratch=tmp_path / "scratch")
    yield Taken(side, tmp_path / "source", pool)
    pool.close()


def test_a_folder_comes_by_the_path_it_had_or_the_one_it_is_listed_by(taken: Taken) -> None:
    assert taken.names("") == ["directory-www", "sqlite-app.db"]
    assert taken.names("directory-www") == ["www"]
    assert taken.names(str(taken.source)) == ["index.html", "inner", "link"]
    assert taken.names("directory-www/www/inner/") == ["large", "odd\udcff"]
    large = (taken.source / "inner" / "large").read_bytes()
    by_origin = taken.of(f"{taken.source}/inner")
    assert by_origin.name == "inner.tar"
    found = members(content(by_origin))
    assert found == {"inner": None, "inner/large": large, "inner/odd\udcff": b"odd"}
    assert members(content(taken.of("directory-www/www/inner"))) == found
    assert members(content(taken.of(f"{taken.source}/inner/odd\udcff"))) == {"odd\udcff": b"odd"}
    assert taken.readers == []


def test_a_zip_holds_the_same(taken: Taken) -> None:
    with zipfile.ZipFile(io.BytesIO(content(taken.of(str(taken.source), "zip")))) as archive:
        assert archive.testzip() is None
        assert archive.read("www/index.html") == b"hello"
        digest = hashlib.sha256(archive.read("www/inner/large")).digest()
    assert digest == hashlib.sha256((taken.source / "inner" / "large").read_bytes()).digest()


def test_all_of_a_checkpoint_comes_without_a_path(taken: Taken) -> None:
    whole = taken.of("")
    assert whole.name == f"checkpoint-{taken.checkpoint.id[:8]}.tar"
    found = members(content(whole))
    assert found["directory-www/www/index.html"] == b"hello"
    assert any(name.startswith("sqlite-app.db/") for name in found)
    alone = members(content(taken.of(str(taken.base))))
    assert list(alone) == ["app.db"]
    assert alone["app.db"] == found["sqlite-app.db/app.db"]


def test_a_folder_is_listed_page_by_page(taken: Taken) -> None:
    marker, names = b"", []
    while True:
        found, has_more = taken.downloads.files(
            taken.caller,
            taken.side.provider_id,
            taken.checkpoint.id,
            path=os.fsencode(taken.source),
            limit=1,
            marker=marker,
        )
        names += [one.name for one in found]
        if not has_more:
            break
        marker = found[-1].name
    assert names == [b"index.html", b"inner", b"link"]
    assert (found[0].type, found[0].target) == ("symlink", b"inner/large")


def test_each_download_stands_in_the_audit_log(taken: Taken) -> None:
    content(taken.of(f"{taken.source}/index.html"))
    newest = taken.side.database.read(lambda c: audit.newest(c, project_id=taken.side.project_id))[0]
    assert (newest.user_id, newest.action, newest.object_id) == (
        "alice",
        "download",
        taken.checkpoint.id,
    )
    assert newest.details == {"path": "directory-www/www/index.html", "format": "tar"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/elsewhere", NotFoundError),
        ("directory-www/www/missing", NotFoundError),
        ("directory-other", NotFoundError),
        ("directory-www/www/index.html/below", NotFoundError),
        ("directory-www/../../etc", InvalidInputError),
    ],
)
def test_what_is_not_there_is_said_before_the_first_byte(
    taken: Taken, path: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        taken.of(path)
    with pytest.raises(kind):
        taken.names(path)
    assert taken.readers == []


def test_a_file_is_no_folder_to_list(taken: Taken) -> None:
    with pytest.raises(InvalidInputError, match="must be a folder"):
        taken.names(f"{taken.source}/index.html")


def test_other_projects_and_unfinished_checkpoints_are_refused(taken: Taken) -> None:
    stranger = Caller("00000000-0000-0000-0000-000000000000", "mallory", is_admin=False)
    with pytest.raises(NotFoundError):
        taken.downloads.download(
            stranger, taken.side.provider_id, taken.checkpoint.id, path=b"", format="tar"
        )
    taken.side.database.write("test", lambda tx: checkpoints.lose(tx, taken.checkpoint.id, "lost"))
    with pytest.raises(StateError, match="is error: lost"):
        taken.of("")


def test_a_place_that_was_taken_from_the_project_is_not_given_out(taken: Taken) -> None:
    (allowed,) = taken.side.data.projects.glob("*.yaml")
    allowed.write_text(f"project: admin\nroots: [{taken.base.parent}]\n")
    assert content(taken.of(str(taken.base)))
    for path in (str(taken.source), "directory-www/www/index.html", ""):
        with pytest.raises(ForbiddenError, match="cannot be taken out"):
            taken.of(path)
        if path:
            with pytest.raises(ForbiddenError, match="cannot be taken out"):
                taken.names(path)


def test_what_has_become_of_the_source_does_not_matter(taken: Taken) -> None:
    shutil.rmtree(taken.source)
    taken.source.write_text("in its place")
    assert members(content(taken.of(f"{taken.source}/index.html"))) == {"index.html": b"hello"}


def test_it_holds_the_checkpoint_until_it_is_closed(taken: Taken) -> None:
    begun = taken.of(str(taken.source))
    assert len(taken.readers) == 1
    assert taken.readers[0].startswith("download:")
    begun.close()
    assert taken.readers == []


def test_it_holds_the_checkpoint_while_its_client_is_slow(taken: Taken) -> None:
    begun = taken.of(str(taken.source))
    clock = taken.side.database.clock
    name = checkpoints.reader_lease(taken.checkpoint.id)
    later = clock.now() + timedelta(seconds=IDLE_S)
    assert taken.side.database.read(lambda c: leases.held(c, name, later))
    begun.close()


def test_one_that_is_stopped_ends_and_the_next_one_has_its_turn(taken: Taken) -> None:
    begun = taken.of(str(taken.source))
    threading.Thread(target=begun.stop).start()
    with pytest.raises(CancelledError):
        while begun.next() is not None:
            pass
    assert taken.readers == []
    assert members(content(taken.of(f"{taken.source}/index.html"))) == {"index.html": b"hello"}


def test_one_whose_mover_dies_breaks_off(taken: Taken) -> None:
    begun = taken.of(str(taken.source))
    for pid in taken.pool.pids:
        os.kill(pid, 9)
    with pytest.raises(MoverDiedError):
        content(begun)
    assert taken.readers == []


def test_damage_breaks_off_before_the_wrong_bytes(taken: Taken) -> None:
    _flip(taken.side, taken.checkpoint)
    with pytest.raises(DamagedError):
        content(taken.of(str(taken.source)))


def _flip(side: Side, checkpoint: Checkpoint) -> None:
    """Flip a byte in the middle of the largest pack: that of the large file."""
    largest = max((one for one in side.data.bank.rglob("data/*/*")), key=lambda one: one.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(1_500_000)
        old = file.read(1)
        file.seek(1_500_000)
        file.write(bytes((old[0] ^ 1,)))
