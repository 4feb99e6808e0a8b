# SPDX-License-Identifier: Apache-2.0
"""No path, however it is written or linked, leads out of the roots of a project (I11)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.core.errors import ForbiddenError, InvalidInputError, NotFoundError, SeawallError
from seawall.sdk.beneath import checked_path, find, open_beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "a" / "b").mkdir(parents=True)
    (made / "a" / "file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return made


def test_a_path_without_tricks_leads_to_itself(root: Path) -> None:
    assert find(f"{root}//a/./file/", [root]).path == root / "a" / "file"
    assert find(root, [root]).path == root
    descriptor = open_beneath(root / "a" / "file", [root], os.O_RDONLY)
    assert os.read(descriptor, 100) == b"inside"
    os.close(descriptor)


@pytest.mark.parametrize(
    "text", ["", "a", "./a", "../a", "/a/../b", "/..", "/a\x00b", "/" + "n" * 256, "/n" * 2100]
)
def test_what_is_no_path_of_this_system_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        checked_path(text)
    assert caught.value.fields[0].field == "path"


@pytest.mark.parametrize(
    "target",
    ["../secret", "../../secret", "/etc/passwd", "/", "..", "a/../../secret", "./../secret", "{outside}"],
)
def test_a_symlink_out_of_the_root_is_refused(root: Path, tmp_path: Path, target: str) -> None:
    (root / "link").symlink_to(target.format(outside=tmp_path / "secret"))
    for path in (root / "link", root / "link" / "passwd"):
        with pytest.raises(ForbiddenError, match="symbolic link out of"):
            find(path, [root])
        with pytest.raises(ForbiddenError):
            find(path, [root], must_exist=False)
        with pytest.raises(ForbiddenError):
            open_beneath(path, [root], os.O_RDONLY)


@pytest.mark.parametrize("target", ["a/file", "./a/../a/file", "{root}/a/file", "b/../a/file", "other"])
def test_a_symlink_that_stays_inside_is_followed(root: Path, target: str) -> None:
    (root / "b").mkdir()
    (root / "other").symlink_to("a/file")
    (root / "link").symlink_to(target.format(root=root))
    assert find(root / "link", [root]).path == root / "a" / "file"


def test_symlinks_in_a_circle_end(root: Path) -> None:
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    with pytest.raises(InvalidInputError, match="symbolic links"):
        find(root / "x", [root])


def test_outside_of_every_root_is_refused_and_the_roots_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ForbiddenError, match=str(root)):
        find(tmp_path / "secret", [root])
    with pytest.raises(ForbiddenError):
        find(f"{root}-other", [root])
    with pytest.raises(ForbiddenError, match="none"):
        find(root, [])


def test_a_root_that_is_a_symlink_is_the_operators_word(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to("root")
    (root / "absolute").symlink_to(tmp_path / "alias" / "a")
    assert find(tmp_path / "alias" / "a" / "file", [tmp_path / "alias"]).path == root / "a" / "file"
    assert find(tmp_path / "alias" / "absolute" / "b", [tmp_path / "alias"]).path == root / "a" / "b"


def test_a_symlink_may_lead_where_a_wider_root_allows(root: Path, tmp_path: Path) -> None:
    (root / "up").symlink_to("../secret")
    assert find(root / "up", [root, tmp_path]).path == tmp_path / "secret"


def test_the_root_of_the_system_is_no_way_out(root: Path) -> None:
    (root / "up").symlink_to("/.." * 5 + str(root / "a"))
    (root / "back").symlink_to("../" * 60 + str(root / "a")[1:])
    for name in ("up", "back"):
        assert find(root / name, [Path("/")]).path == root / "a"


def test_what_is_missing_is_said_to_be(root: Path) -> None:
    for path in (root / "nothing", root / "a" / "file" / "below", root / "nothing" / "below"):
        with pytest.raises(NotFoundError, match=str(path)):
            find(path, [root])
    with pytest.raises(NotFoundError, match="the root"):
        find("/no/such/place/a", [Path("/no/such/place")])


def test_what_is_to_be_made_may_be_missing(root: Path) -> None:
    (root / "dangling").symlink_to("new/place")
    assert find(root / "x" / "y", [root], must_exist=False).path == root / "x" / "y"
    assert find(root / "dangling" / "z", [root], must_exist=False).path == root / "new" / "place" / "z"
    assert find(root / "x", [root], must_exist=False).status is None
    assert list(root.iterdir()) != []
    assert not (root / "x").exists()


def test_a_missing_folder_does_not_hide_a_way_out(root: Path) -> None:
    (root / "trick").symlink_to("missing/../../secret")
    with pytest.raises((ForbiddenError, NotFoundError)):
        find(root / "trick", [root])
    with pytest.raises(ForbiddenError):
        find(root / "trick", [root], must_exist=False)


def test_nothing_stays_open(root: Path) -> None:
    (root / "link").symlink_to("a/b")
    (root / "bad").symlink_to("../secret")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a/file", "link", "bad", "nothing", "a/file/x"):
        try:
            find(root / path, [root])
        except SeawallError:
            pass
    assert len(os.listdir("/proc/self/fd")) == before


LONG = "n" * 255
NAMES = st.sampled_from(
    ["a", "b", "c", "..", ".", "link0", "link1", "link2", "", LONG, LONG + "n", "ü" * 127, "\n"]
)
TARGETS = st.tuples(st.sampled_from(["", "/", "{root}/", "{outside}/"]), st.lists(NAMES, max_size=5))


@settings(max_examples=150, deadline=None)
@given(
    links=st.lists(TARGETS, min_size=3, max_size=3),
    path=st.lists(NAMES, max_size=6),
    must_exist=st.booleans(),
)
def test_whatever_the_links_nothing_outside_is_ever_found(
    tmp_path_factory: pytest.TempPathFactory,
    links: list[tuple[str, list[str]]],
    path: list[str],
    must_exist: bool,
) -> None:
    folder = tmp_path_factory.mktemp("tricks")
    root, outside = folder / "root", folder / "outside"
    try:
        (root / "a" / "b").mkdir(parents=True)
        (outside / "a" / "b").mkdir(parents=True)
        for number, (begin, names) in enumerate(links):
            target = begin.format(root=root, outside=outside) + "/".join(names)
            for place in (root, root / "a"):
                (place / f"link{number}").symlink_to(target or ".")
        try:
            found = find(f"{root}/" + "/".join(path), [root], must_exist=must_exist)
        except (ForbiddenError, InvalidInputError, NotFoundError):
            return
        assert found.path.is_relative_to(root)
        real = Path(os.path.realpath(found.path))
        assert real == found.path, "what was found still leads elsewhere"
    finally:
        shutil.rmtree(folder)
