# SPDX-License-Identifier: Apache-2.0
"""What is left out of a backup: by pattern as restic does, by file system, by cache tag."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from seawall.core.errors import InvalidInputError
from seawall.repository import Repository
from seawall.repository.patterns import Patterns
from seawall.repository.walk import CACHE_TAG
from tests.repository.conftest import Restic, commit

TREE = (
    "a.log",
    "keep.txt",
    "sub/a.log",
    "sub/b.txt",
    "sub/deep/c.o",
    "node_modules/x",
    "sub/node_modules/y",
    "[x]",
)
CASES = [
    ["*.log"],
    ["node_modules"],
    ["sub/**/c.o"],
    ["sub/*.txt"],
    ["sub/*", "!sub/b.txt"],
    ["*.log", "!sub/a.log"],
    ["[ab].*"],
    ["?.o"],
    ["\\[x\\]"],
    ["nothing"],
    ["deep/*"],
]


def _make(root: Path) -> None:
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def _saved(repository: Repository, tree: str, above: str = "") -> set[str]:
    found = set()
    for node in repository.nodes(tree):
        path = above + os.fsdecode(node.name)
        found |= _saved(repository, node.subtree.hex(), path + "/") if node.subtree else {path}
    return found


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.log", "/x/y.log", True),
        ("*.log", "/x.log/y", False),
        ("/x/*.log", "/x/y.log", True),
        ("/x/*.log", "/a/x/y.log", False),
        ("x/*.log", "/a/x/y.log", True),
        ("**/y", "/a/b/y", True),
        ("/a/**/y", "/a/y", True),
        ("[!a]b", "/cb", True),
        ("[^a]b", "/ab", False),
        ("a?c", "/a/c", False),
        ("new\nline", "/new\nline", True),
    ],
)
def test_patterns_match_by_name_and_folder(pattern: str, path: str, expected: bool) -> None:
    assert Patterns([pattern]).exclude(path) is expected


@pytest.mark.parametrize("pattern", ["", "/", "!", "a/../b", "[a", "."])
def test_what_is_no_pattern_is_named(pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="patterns"):
        Patterns([pattern])


@pytest.mark.slow
def test_patterns_leave_out_what_restic_leaves_out(
    restic: Restic, repository: Repository, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    _make(source)
    restic.run("init", "--repository-version", "2")
    for patterns in [*CASES, [f"{source}/sub"], [f"{source}/*/node_modules"]]:
        restic.run("backup", str(source), *(word for one in patterns for word in ("--exclude", one)))
        listed = restic.run("ls", "latest", str(source), "--recursive").splitlines()
        theirs = {line.removeprefix(f"{source}/") for line in listed} & set(TREE)
        _, tree = commit(repository, source, patterns=patterns)
        assert _saved(repository, tree) == theirs, patterns


def test_a_cache_is_left_out_but_for_its_tag(repository: Repository, tmp_path: Path) -> None:
    for name, sign in (("cache", "Signature: 8a477f597d28d172789f06886806bc55\n# more"), ("no cache", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / CACHE_TAG).write_text(sign)
        (tmp_path / name / "entry").write_text("x")
    _, tree = commit(repository, tmp_path, exclude_caches=True)
    assert _saved(repository, tree) == {f"cache/{CACHE_TAG}", f"no cache/{CACHE_TAG}", "no cache/entry"}
    _, tree = commit(repository, tmp_path)
    assert "cache/entry" in _saved(repository, tree)


def test_what_is_mounted_below_is_left_out_when_asked(repository: Repository, tmp_path: Path) -> None:
    inner = tmp_path / "source" / "mounted"
    inner.mkdir(parents=True)
    (tmp_path / "source" / "file").write_text("x")
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(inner)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root and the right to mount")
    try:
        (inner / "other").write_text("y")
        _, tree = commit(repository, tmp_path / "source", one_file_system=True)
        assert _saved(repository, tree) == {"file"}
        assert [node.name for node in repository.nodes(tree)] == [b"file", b"mounted"]
        _, tree = commit(repository, tmp_path / "source")
        assert _saved(repository, tree) == {"file", "mounted/other"}
    finally:
        subprocess.run(["umount", str(inner)], check=True)
