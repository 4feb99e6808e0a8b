# SPDX-License-Identifier: Apache-2.0
"""The data folder is its owner's alone, and a private file is there whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from seawall.core.errors import ConfigurationError
from seawall.runtime.folder import DataFolder, default_data_dir, write_private
from seawall.sdk.failpoints import FailpointError, arm


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_closed_to_others_and_may_be_made_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    folder.create()
    folder.create()

    assert mode(folder.path) == 0o700
    assert mode(folder.operations) == mode(folder.scratch) == mode(folder.lock("x").parent) == 0o700


def test_a_folder_that_others_may_read_is_refused_with_the_way_to_mend_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {tmp_path}"):
        DataFolder(tmp_path).create()


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DataFolder(tmp_path / "data").create()


def test_a_private_file_replaces_the_former_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old and open to all")
    path.chmod(0o644)
    write_private(path, "new\n")

    assert path.read_text() == "new\n"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("point", ["before_fsync", "before_rename"])
def test_a_private_file_that_was_cut_off_leaves_the_former_one(tmp_path: Path, point: str) -> None:
    path = tmp_path / "token"
    write_private(path, "old\n")
    arm(f"folder.private_file.{point}=raise")
    with pytest.raises(FailpointError):
        write_private(path, "new\n")
    arm("")

    assert path.read_text() == "old\n"
    write_private(path, "newer\n")
    assert path.read_text() == "newer\n"


def test_the_folder_is_chosen_by_variable_or_by_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("SEAWALL_DATA_DIR")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "seawall"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/seawall")
