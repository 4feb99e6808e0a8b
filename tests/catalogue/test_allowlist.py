# SPDX-License-Identifier: Apache-2.0
"""What a project may touch stands in the operator's files; what no file allows is denied (I11)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seawall.core.errors import ForbiddenError, InvalidInputError
from seawall.protection import allowlist
from seawall.protection.allowlist import AllowList
from tests.catalogue.ground import Ground


def test_a_project_is_named_by_name_or_id_and_others_have_nothing(ground: Ground) -> None:
    assert ground.allowlist.roots(ground.project_id) == (ground.srv,)
    assert ground.allowlist.roots("admin") == (ground.srv,)
    assert ground.allowlist.roots(ground.other_id) == ()
    with pytest.raises(ForbiddenError, match="allowed: none"):
        ground.allowlist.check(ground.other_id, str(ground.srv))
    ground.allow(ground.other_id, ground.folder / "theirs")
    assert ground.allowlist.roots(ground.other_id) == (ground.folder / "theirs",)
    assert ground.allowlist.roots(ground.project_id) == (ground.srv,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("project: admin\nroots: /\n", "roots"),
        ("project: admin\nroots: [relative]\n", "roots[0]"),
        ("project: admin\nroots: [/a/../b]\n", "roots[0]"),
        ("project: admin\nroots: [/]\ncommands: [ls]\n", "commands"),
        ("roots: [/]\n", "project"),
        ("project: admin\n", "roots"),
        ("project: admin\nroots: [[/]]\n", "roots"),
        ("{", "YAML"),
    ],
)
def test_a_broken_file_allows_nothing_and_is_named(ground: Ground, text: str, words: str) -> None:
    path = ground.data.projects / "broken.yaml"
    path.write_text(text)
    path.chmod(0o600)
    assert ground.allowlist.roots(ground.project_id) == (ground.srv,)
    (fault,) = ground.allowlist.faults
    assert fault.source == str(path)
    assert words in fault.reason


def test_a_file_that_others_can_write_allows_nothing(ground: Ground) -> None:
    (ground.data.projects / "admin.yaml").chmod(0o602)
    assert ground.allowlist.roots(ground.project_id) == ()
    assert "chmod go-w" in ground.allowlist.faults[0].reason


def test_the_first_start_allows_the_admin_project_alone_and_everything(tmp_path: Path) -> None:
    folder = tmp_path / "projects.d"
    allowlist.ensure_default(folder, "admin")
    found = AllowList(folder)
    assert (found.roots("admin"), found.roots("other"), found.faults) == ((Path("/"),), (), ())
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "admin.yaml").unlink()
    allowlist.ensure_default(folder, "admin")
    assert found.roots("admin") == (), "what the operator took away comes back"


def test_a_killed_first_start_is_finished_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "projects.d"
    (tmp_path / f".projects.d.{os.getpid()}.new").mkdir()
    allowlist.ensure_default(folder, "admin")
    assert AllowList(folder).roots("admin") == (Path("/"),)


def test_what_is_always_left_out_is_refused_by_name_and_noticed_elsewhere(ground: Ground) -> None:
    ground.allow("admin", Path("/"))
    for path, words in (
        ("/proc", "/proc"),
        ("/proc/self", "/proc"),
        ("/sys/kernel", "/sys"),
        (str(ground.data.path), "data folder"),
        (str(ground.data.install_key), "data folder"),
    ):
        with pytest.raises(InvalidInputError, match="cannot be used") as caught:
            ground.allowlist.check(ground.project_id, path)
        assert words in caught.value.fields[0].rule
    notices = ground.allowlist.notices(ground.allowlist.check(ground.project_id, "/"))
    assert any("/proc" in one for one in notices)
    assert any("data folder" in one for one in notices)
    assert ground.allowlist.notices(ground.allowlist.check(ground.project_id, str(ground.srv))) == ()


def test_a_symlink_into_the_data_folder_is_seen_through(ground: Ground) -> None:
    ground.allow("admin", ground.folder)
    (ground.srv / "innocent").symlink_to(ground.data.path)
    (ground.folder / "alias").symlink_to("data")
    for path in (ground.srv / "innocent", ground.srv / "innocent" / "install-key", ground.folder / "alias"):
        with pytest.raises(InvalidInputError, match="data folder"):
            ground.allowlist.check(ground.project_id, str(path))
