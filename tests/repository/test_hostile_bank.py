# SPDX-License-Identifier: Apache-2.0
"""Whatever a bank holds: an operation may fail with an error of ours, and nothing else happens.

Two adversaries: one who can change, cut, swap and add objects, and one who also has the key, so that every
tag is right. Neither makes anything crash, writes outside the target of a restore, passes off other content
as what was backed up (without the key), or takes unbounded memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seawall.core.errors import DamagedError, SeawallError, WrongKeyError
from seawall.repository import Repository, codec, config, index, keys, locks, pending
from seawall.repository.crypto import Key
from seawall.repository.pack import BlobType
from seawall.repository.snapshot import from_json
from tests.repository.banks import DictBank
from tests.repository.conftest import NOW, PASSWORD, OpenLock, fresh

PROJECT = Path(__file__).parents[2]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=700)


@cache
def _pristine() -> tuple[dict[str, bytes], Key, dict[str, bytes]]:
    """A repository with everything in it, its key, and what its one snapshot holds."""
    bank = DictBank()
    repository = fresh(bank)
    with TemporaryDirectory() as folder:
        source = Path(folder)
        contents = {"a": b"first", "b": os.urandom(700), "d/c": b"c" * 5000, "d/e/f": b""}
        for name, content in contents.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        (source / "d" / "link").symlink_to("../a")
        os.mkfifo(source / "pipe")
        lock = repository.lock(now=NOW)
        with repository.writer(lock) as writer:
            gone = writer.save_nodes([writer.save_bytes("gone", b"gone")])
            words: dict[str, Any] = {"hostname": "h", "username": "u", "paths": ["/p"], "tags": ["t"]}
            first = writer.commit(gone, time=NOW, **words)
            writer.commit(writer.save_path(source).tree_id, time=NOW, parent=first, **words)
    repository.forget(first)
    held = repository.lock(now=NOW, task=locks.PRUNE)
    repository.prune(held, clock=lambda: NOW)
    held.release()
    return dict(bank.objects), repository.key, contents


def _bank() -> DictBank:
    bank = DictBank()
    bank.objects = dict(_pristine()[0])
    return bank


def _fails_well(act: Callable[[], object]) -> object:
    """What it gives, or None when it fails with an error of ours; any other exception ends the test."""
    try:
        return act()
    except SeawallError:
        return None


def _opened(bank: DictBank) -> Repository:
    key = _pristine()[1]
    return Repository(bank, key, config.Config("00" * 32, 2, ""), "", NOW)


def _restored(opened: Repository, tree: str, cage: Path) -> dict[str, bytes]:
    """Restore into a cage; what stands in it. Nothing beside the target has changed."""
    target = cage / "target"
    (cage / "canary").write_bytes(b"sings")
    result = opened.restore(tree, target)
    assert sorted(os.listdir(cage)) == ["canary", "target"]
    assert (cage / "canary").read_bytes() == b"sings"
    assert not (cage / "canary").is_symlink()
    assert len(result.faults) <= 10_001
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _use(bank: DictBank, *, honest: bool) -> None:
    """Everything that can be done with a repository. With ``honest`` what is restored is what was saved."""
    opened = _opened(bank)
    _fails_well(opened.refresh)
    _fails_well(lambda: opened.check(read_data=True))
    _fails_well(lambda: config.load(bank, opened.key))
    _fails_well(opened.keys)
    _fails_well(opened.locks)
    _fails_well(lambda: list(pending.load_all(bank, opened.key)))
    for one in _fails_well(opened.snapshots) or ():  # type: ignore[attr-defined]  # a list when it is not None
        with TemporaryDirectory() as folder:
            found = _fails_well(lambda one=one, folder=folder: _restored(opened, one.tree, Path(folder)))  # type: ignore[misc]
            if honest and found is not None:
                contents = _pristine()[2]
                assert all(contents[name] == content for name, content in found.items())  # type: ignore[attr-defined]
        _fails_well(lambda one=one: sum(map(len, opened.tar(one.tree))))  # type: ignore[misc]
        _fails_well(lambda one=one: _save_beside(opened, one.tree))  # type: ignore[misc]
    later = NOW + timedelta(days=2)
    _fails_well(lambda: _prune(opened, later))
    _fails_well(lambda: _repair(opened, later))


def _save_beside(opened: Repository, parent: str) -> None:
    """A backup whose parent is this tree."""
    with TemporaryDirectory() as folder, opened.writer(OpenLock()) as writer:
        (Path(folder) / "d").mkdir()
        (Path(folder) / "a").write_bytes(b"first")
        tree = writer.save_path(Path(folder), parent_tree=parent).tree_id
        writer.adopt(parent)
        writer.commit(tree, hostname="h", username="u", paths=[], tags=[], time=NOW)


def _prune(opened: Repository, now: Any) -> None:
    lock = opened.lock(now=now, task=locks.PRUNE)
    opened.prune(lock, clock=lambda: now, max_unused=0.0)
    lock.release()


def _repair(opened: Repository, now: Any) -> None:
    lock = opened.lock(now=now, exclusive=True)
    opened.repair(lock, clock=lambda: now, read_data=True)
    lock.release()


# --- without the key ---------------------------------------------------------------------------------


@st.composite
def _changed(draw: st.DrawFn) -> DictBank:
    """A real repository of which some objects were changed, cut, swapped, removed or added."""
    bank = _bank()
    for _ in range(draw(st.integers(1, 3))):
        names = sorted(bank.objects)
        name = draw(st.sampled_from(names))
        content = bank.objects[name]
        how = draw(st.sampled_from(["flip", "cut", "grow", "swap", "remove", "copy", "noise", "empty"]))
        if how == "flip" and content:
            place = draw(st.integers(0, len(content) - 1))
            changed = bytearray(content)
            changed[place] ^= 1 << draw(st.integers(0, 7))
            bank.objects[name] = bytes(changed)
        elif how == "cut":
            bank.objects[name] = content[: draw(st.integers(0, len(content)))]
        elif how == "grow":
            bank.objects[name] = content + draw(st.binary(min_size=1, max_size=50))
        elif how == "swap":
            other = draw(st.sampled_from(names))
            bank.objects[name], bank.objects[other] = bank.objects[other], content
        elif how == "remove":
            del bank.objects[name]
        elif how == "copy":
            folder = draw(st.sampled_from(["index/", "snapshots/", "locks/", "keys/", "data/00/", "data/"]))
            bank.objects[folder + draw(st.sampled_from(["ab" * 32, "x", "00" * 32]))] = content
        elif how == "noise":
            bank.objects[name] = draw(st.binary(max_size=200))
        else:
            bank.objects[name] = b""
        if not bank.objects:
            break
    return bank


@QUICK
@given(_changed())
def test_changed_objects_do_no_harm(bank: DictBank) -> None:
    _use(bank, honest=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@LONG
@given(_changed())
def test_many_changed_objects_do_no_harm(bank: DictBank) -> None:
    _use(bank, honest=True)


# --- with the key ------------------------------------------------------------------------------------

HOSTILE: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, True, -1, 0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 1.5, 1e308, "", ".", "..", "../x",
        "/etc/x", "a/b", "a", "canary", "\\x00", "\0", "\\", "\\u12", "\\ud800", "\\U0010ffff", "x" * 5000,
        "ab", "ab" * 32, "g" * 64, "tree", "data", "dir", "file", "symlink", "dev", "chardev", "fifo",
        "socket", [], [[]], ["ab" * 32], ["ab"], [None], {}, {"name": 1},
        [{"name": "user.x\0", "value": "AA=="}], [{"name": "user.x", "value": 5}], [{"name": "user.x"}],
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00.5", "T" * 30, 4294967295, 0o7777 | 1 << 23, "////", "Li4vY2FuYXJ5",
        "../canary",
    ]
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield from _places(inner, (*path, name))


def _twisted(draw: st.DrawFn, value: Any) -> Any:
    """The value with some of its parts replaced, removed, repeated or added."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(_places(value))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return deepcopy(draw(HOSTILE))
            continue
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        last = path[-1]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat"]))
        if how == "replace":
            holder[last] = deepcopy(draw(HOSTILE))
        elif how == "remove":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(deepcopy(holder[last]))
    return value


def _json_of(bank: DictBank, name: str) -> Any:
    key = _pristine()[1]
    return codec.unpack_object(key.open(bank.objects[name], name), name)


@st.composite
def _resealed(draw: st.DrawFn) -> DictBank:
    """A repository one object of which says something else, with the right tag and name."""
    bank = _bank()
    key = _pristine()[1]
    kinds = ("config", "index/", "snapshots/", "locks/", "seawall/pending/")
    name = draw(st.sampled_from([one for one in sorted(bank.objects) if one.startswith(kinds)]))
    twisted = _twisted(draw, _json_of(bank, name))
    sealed = key.seal(codec.pack_object(twisted))
    if name != "config":
        if draw(st.booleans()):
            del bank.objects[name]
        name = name.rpartition("/")[0] + "/" + codec.content_id(sealed).hex()
    bank.objects[name] = sealed
    return bank


@QUICK
@given(_resealed())
def test_hostile_objects_with_the_right_tag_do_no_harm(bank: DictBank) -> None:
    _use(bank, honest=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@LONG
@given(_resealed())
def test_many_hostile_objects_with_the_right_tag_do_no_harm(bank: DictBank) -> None:
    _use(bank, honest=False)


@st.composite
def _hostile_tree(draw: st.DrawFn) -> DictBank:
    """A repository whose snapshot has a tree that no honest backup makes."""
    bank = _bank()
    opened = _opened(bank)
    opened.refresh()
    root = opened.snapshots()[-1].tree
    with opened.writer(OpenLock()) as writer:
        below = next(one["subtree"] for one in writer.load_entries(root) if one["name"] == "d")
        inner = _twisted(draw, {"nodes": writer.load_entries(below)})
        inner_id = writer._save(BlobType.TREE, orjson.dumps(inner))
        entries = writer.load_entries(root)
        for entry in entries:
            if entry["name"] == "d":
                entry["subtree"] = inner_id.hex()
        outer = _twisted(draw, {"nodes": entries})
        outer_id = writer._save(BlobType.TREE, orjson.dumps(outer))
        writer.commit(outer_id.hex(), hostname="h", username="u", paths=[], tags=[], time=NOW)
    return bank


@QUICK
@given(_hostile_tree())
def test_hostile_trees_do_no_harm(bank: DictBank) -> None:
    _use(bank, honest=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@LONG
@given(_hostile_tree())
def test_many_hostile_trees_do_no_harm(bank: DictBank) -> None:
    _use(bank, honest=False)


@QUICK
@given(
    header=st.binary(max_size=200), body=st.binary(max_size=80), length=st.integers(0, 2**32 - 1) | st.none()
)
def test_hostile_pack_headers_do_no_harm(header: bytes, body: bytes, length: int | None) -> None:
    bank = _bank()
    sealed = _pristine()[1].seal(header)
    pack = body + sealed + (len(sealed) if length is None else length).to_bytes(4, "little")
    name = codec.content_id(pack).hex()
    bank.objects[f"data/{name[:2]}/{name}"] = pack
    _use(bank, honest=True)


# --- key slots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "twist",
    [
        {"N": 2**40}, {"N": 2**21, "r": 8, "p": 1}, {"N": 3}, {"N": 0}, {"N": -2}, {"N": 1e308},
        {"N": "x"}, {"r": 0}, {"p": 2**31}, {"N": 2**20, "r": 1, "p": 1}, {"salt": 5}, {"salt": "AAA"},
        {"data": None}, {"data": ""}, {"kdf": []},
    ],
)  # fmt: skip
def test_a_hostile_key_slot_is_refused_and_hides_no_other(twist: dict[str, Any]) -> None:
    bank = DictBank()
    made = Repository.init(bank, passwords=[PASSWORD], now=NOW)
    (name,) = [one for one in bank.objects if one.startswith("keys/")]
    slot = orjson.loads(bank.objects[name]) | twist
    bank.objects["keys/" + "00" * 32] = orjson.dumps(slot)
    assert Repository.open(bank, password=PASSWORD, now=NOW).id == made.id
    del bank.objects[name]
    with pytest.raises((DamagedError, WrongKeyError)):
        Repository.open(bank, password=PASSWORD, now=NOW)
    assert len(made.keys()) == 1


def test_more_key_slots_than_anybody_makes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = _bank()
    slot = {"kdf": "scrypt", "N": 2, "r": 1, "p": 1, "salt": "AAAA", "data": "AAAA"}
    for number in range(40):
        bank.objects[f"keys/{number:064}"] = orjson.dumps(slot)
    with pytest.raises(WrongKeyError, match="40"):
        keys.find_master(bank, PASSWORD, b"")
    monkeypatch.setattr(keys, "_MAX_TOTAL_WORK", 60)
    with pytest.raises(DamagedError, match="too many"):
        keys.find_master(bank, PASSWORD, b"")
    monkeypatch.setattr(keys, "_MAX_SLOTS", 39)
    with pytest.raises(DamagedError, match="more than 39"):
        keys.find_master(bank, PASSWORD, b"")


# --- shapes ------------------------------------------------------------------------------------------


def _tower(opened: Repository, depth: int, width: int, last: list[dict[str, Any]]) -> str:
    """Folders within folders, each ``width`` times the same one; the tree at the top."""
    with opened.writer(OpenLock()) as writer:
        tree = writer._save(BlobType.TREE, orjson.dumps({"nodes": last}))
        for _ in range(depth):
            nodes = [{"name": f"d{at}", "type": "dir", "subtree": tree.hex()} for at in range(width)]
            tree = writer._save(BlobType.TREE, orjson.dumps({"nodes": nodes}))
        writer.commit(tree.hex(), hostname="h", username="u", paths=[], tags=[], time=NOW)
    return tree.hex()


def test_a_tower_of_folders_comes_to_an_end(repository: Repository, tmp_path: Path) -> None:
    tree = _tower(repository, 400, 1, [])
    assert "folders deep" in str(repository.check()[0])
    assert "folders deep" in str(repository.restore(tree, tmp_path / "target").faults[0])
    with pytest.raises(DamagedError, match="folders deep"):
        list(repository.tar(tree))
    _prune(repository, NOW)
    shutil.rmtree(tmp_path / "target")


@pytest.mark.parametrize("is_whole", [True, False])
def test_folders_that_multiply_are_looked_at_once(repository: Repository, is_whole: bool) -> None:
    """2^200 paths to one file. Damaged below, the list of faults is what ends it."""
    content = [] if is_whole else ["ab" * 32]
    _tower(repository, 200, 2, [{"name": "f", "type": "file", "content": content}])
    faults = repository.check()
    assert len(faults) == (0 if is_whole else 10_001)
    _prune(repository, NOW)


def test_a_tree_that_claims_to_contain_itself_is_damage(bank: DictBank, repository: Repository) -> None:
    """An id is the hash of the content, so a cycle can only be claimed by the index."""
    tree = _tower(repository, 3, 1, [])
    repository.refresh()
    place = repository.index.find(bytes.fromhex(tree), BlobType.TREE)
    assert place is not None
    inner = next(repository.nodes(tree)).subtree
    assert inner is not None
    lie = [(place.pack_id, [place.blob, place.blob._replace(id=inner)])]
    for name in [one for one in bank.objects if one.startswith("index/")]:
        del bank.objects[name]
    index.save_file(bank, repository.key, lie)
    repository.refresh()
    assert "another id" in " ".join(map(str, repository.check()))


def test_names_lead_nowhere_else(repository: Repository, tmp_path: Path) -> None:
    cage = tmp_path / "cage"
    cage.mkdir()
    with repository.writer(OpenLock()) as writer:
        blob = writer.save_whole(b"evil").hex()
        inner = writer._save(
            BlobType.TREE,
            orjson.dumps({"nodes": [{"name": "canary", "type": "file", "size": 4, "content": [blob]}]}),
        ).hex()
        link = {"name": "out", "type": "symlink", "linktarget": ".."}
        nodes = [link, {"name": "out", "type": "dir", "subtree": inner}]
        for name in ("..", "../canary", "/tmp/x", ".", "", "a/b", "\\x2e\\x2e", "..\\x2fcanary", "\\x00"):
            nodes.append({"name": name, "type": "dir", "subtree": inner})
            nodes.append({"name": name, "type": "file", "size": 4, "content": [blob]})  # type: ignore[dict-item]
        tree = writer._save(BlobType.TREE, orjson.dumps({"nodes": nodes}))
        writer.commit(tree.hex(), hostname="h", username="u", paths=[], tags=[], time=NOW)
    found = _restored(repository, tree.hex(), cage)
    assert found == {"out/canary": b"evil"}


@pytest.mark.parametrize(
    "value",
    [
        {"time": "2026-01-01T00:00:00Z"},
        {"time": "2026-01-01T00:00:00Z", "tree": "ab"},
        {"time": "2026-01-01T00:00:00Z", "tree": 5},
        {"time": 5, "tree": "ab" * 32},
        {"time": "2026-01-01T00:00:00Z", "tree": "ab" * 32, "tags": [{}]},
        {"time": "2026-01-01T00:00:00Z", "tree": "ab" * 32, "paths": "abc"},
        {"time": "2026-01-01T00:00:00Z", "tree": "ab" * 32, "parent": "x"},
        {"time": "2026-01-01T00:00:00Z", "tree": "ab" * 32, "summary": 7},
        {"time": "0001-01-01T00:00:00+14:00", "tree": "ab" * 32},
    ],
)
def test_what_is_no_snapshot_is_damage(value: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match="is not a snapshot"):
        from_json("00", value)


def test_bombs_are_refused_before_they_take_memory() -> None:
    """In a process that may not have much; a MemoryError would end it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.repository.bomb_child"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all refused"
