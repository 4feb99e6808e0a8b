# SPDX-License-Identifier: Apache-2.0
"""A writer that was stopped until its lock had expired publishes nothing that is gone by now (I12)."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

import pytest

from seawall.core.errors import BankObjectMissingError, ConflictError, LeaseLostError
from seawall.repository import Node, Repository, Writer
from seawall.repository.locks import RepositoryLock
from seawall.repository.pack import TARGET_BYTES
from tests.repository.conftest import NOW, fresh
from tests.repository.test_prune import Meddling


class Scene:
    """A repository, the time, and a writer under a real lock."""

    def __init__(self) -> None:
        self.bank = Meddling()
        self.now = NOW
        self.repository = fresh(self.bank)
        self.lock = self.repository.lock(now=NOW)
        self.writer = self.repository.writer(self.lock, clock=lambda: self.now)

    def other(self) -> Repository:
        made = Repository(self.bank, self.repository.key, self.repository._config, "", self.now)
        made.refresh()
        return made

    def stop_and_prune(self) -> None:
        """The writer is stopped for an hour; somebody finds its lock stale and prunes at once."""
        self.now += timedelta(hours=1)
        other = self.other()
        lock = RepositoryLock.acquire(self.bank, other.key, exclusive=True, now=self.now)
        other.prune(lock, clock=lambda: self.now, max_unused=0.0)
        lock.release()

    def commit(self, writer: Writer, tree: str, time: datetime = NOW) -> str:
        return writer.commit(tree, hostname="h", username="u", paths=[], tags=[], time=time)

    def is_clean(self, snapshots: int) -> bool:
        """Whether no index names what is not there, and all snapshots are whole."""
        other = self.other()
        return other.check(read_data=True) == [] and len(other.snapshots()) == snapshots


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_packs_that_no_index_names_are_not_named_when_the_lock_has_expired(scene: Scene) -> None:
    with scene.writer as writer:
        writer.save_bytes("0", os.urandom(2 * TARGET_BYTES))
        assert writer.added_bytes > TARGET_BYTES
        assert any(scene.bank.list("data/"))
        scene.stop_and_prune()
        assert not any(scene.bank.list("data/"))
        with pytest.raises(LeaseLostError, match="expired"):
            writer.flush()
    assert not any(scene.bank.list("index/"))
    assert scene.is_clean(0)


def test_an_index_file_that_comes_late_is_taken_back(scene: Scene) -> None:
    with scene.writer as writer:
        writer.save_bytes("0", b"content")
        scene.bank.before = ("put", "index/", scene.stop_and_prune)
        with pytest.raises(LeaseLostError, match="expired"):
            writer.flush()
    assert not any(scene.bank.list("index/"))
    assert scene.is_clean(0)


def test_who_relied_on_an_index_file_that_was_taken_back_finds_it_out(scene: Scene) -> None:
    """Its packs are there, so they are named again by who needs them."""
    content = os.urandom(5000)
    late = scene.other()
    made: list[tuple[Repository, RepositoryLock, Writer, Node]] = []

    def rely() -> None:
        scene.now += timedelta(minutes=26)
        lock = late.lock(now=scene.now)
        writer = late.writer(lock, clock=lambda: scene.now)
        made.append((late, lock, writer, writer.save_bytes("0", content)))
        assert writer.added_bytes == 0

    with scene.writer as writer:
        writer.save_bytes("0", content)
        real = scene.bank.put

        def put(key: str, *rest: object, **words: object) -> None:
            real(key, *rest, **words)  # type: ignore[arg-type]  # whatever it was called with
            if key.startswith("index/") and not made:
                rely()

        scene.bank.put = put  # type: ignore[method-assign]  # a bank that is stopped after a put
        with pytest.raises(LeaseLostError, match="expired"):
            writer.flush()
    assert not any(scene.bank.list("index/"))
    _, lock, writer, node = made[0]
    with writer:
        scene.commit(writer, writer.save_nodes([node]), scene.now)
    lock.release()
    assert scene.is_clean(1)


def test_what_a_prune_took_out_is_not_named_again_when_the_lock_has_expired(scene: Scene) -> None:
    with scene.writer as writer:
        tree = writer.save_nodes([writer.save_bytes("0", b"content")])
        writer.flush()
        scene.stop_and_prune()
        with pytest.raises(LeaseLostError, match="expired"):
            scene.commit(writer, tree, scene.now)
    assert scene.is_clean(0)


def test_a_snapshot_that_comes_late_is_taken_back_when_its_packs_are_gone(scene: Scene) -> None:
    with scene.writer as writer:
        tree = writer.save_nodes([writer.save_bytes("0", b"content")])
        scene.bank.before = ("put", "snapshots/", scene.stop_and_prune)
        with pytest.raises(LeaseLostError, match="expired"):
            scene.commit(writer, tree)
    assert scene.is_clean(0)


def test_a_snapshot_that_comes_late_stays_when_its_packs_are_there(scene: Scene) -> None:
    def stop() -> None:
        scene.now += timedelta(hours=1)

    with scene.writer as writer:
        tree = writer.save_nodes([writer.save_bytes("0", b"content")])
        scene.bank.before = ("put", "snapshots/", stop)
        scene.commit(writer, tree)
    assert scene.is_clean(1)


@pytest.mark.parametrize("moment", ["data/", "index/", "snapshots/"])
def test_a_bank_that_is_unmounted_while_something_is_put_makes_no_backup(scene: Scene, moment: str) -> None:
    """Below a mount point there is an empty folder, which takes everything and holds nothing."""
    with scene.writer as writer:
        tree = writer.save_nodes([writer.save_bytes("letter", os.urandom(100_000))])
        scene.bank.before = ("put", moment, scene.bank.objects.clear)
        with pytest.raises((BankObjectMissingError, ConflictError)):
            scene.commit(writer, tree)
        assert scene.bank.before is None, f"nothing was put into {moment}"
