# SPDX-License-Identifier: Apache-2.0
"""Providers are files of the operator: a broken one is named, and hides no other."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from seawall.core.errors import NotFoundError
from seawall.protection import providers
from seawall.protection.providers import Providers
from seawall.runtime.folder import DataFolder
from seawall.runtime.registry import load_plugins
from tests.catalogue.ground import BANKS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "providers.d"
    made.mkdir(mode=0o700)
    return made


def opened(folder: Path) -> Providers:
    return Providers(folder, load_plugins(BANKS, installed=lambda group: ()))


def put(folder: Path, name: str, text: str | dict[str, object]) -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    path.chmod(0o600)
    return path


def good(**more: object) -> dict[str, object]:
    return {"id": str(uuid4()), "name": "good", "bank": {"type": "file", "path": "/srv/bank"}, **more}


def test_a_good_file_is_a_provider_with_a_bank(folder: Path, tmp_path: Path) -> None:
    put(
        folder,
        "a.yaml",
        good(bank={"type": "file", "path": str(tmp_path / "b")}, resource_types=["directory"]),
    )
    found = opened(folder)
    assert found.faults == ()
    (one,) = found.list()
    assert (one.name, one.bank, one.resource_types) == ("good", "file", ("directory",))
    assert found.get(one.id.upper()) == one
    bank = found.open_bank(one)
    bank.put("x", b"y")
    assert (tmp_path / "b" / "x").read_bytes() == b"y"
    assert found.local_banks() == {tmp_path / "b": "the bank of the provider 'good'"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name: value"),
        ("- a\n", "name: value"),
        ("a: [", "YAML"),
        ("\x00", "YAML"),
        (good(colour="red"), "colour"),
        (good(id="x"), "UUID"),
        (good(id=7), "id"),
        (good(name=""), "name"),
        (good(bank="file"), "bank"),
        (good(bank={"path": "/x"}), "bank.type"),
        (good(bank={"type": "moon"}), "moon"),
        (good(bank={"type": "file"}), "bank.path"),
        (good(bank={"type": "file", "path": "relative"}), "absolute"),
        (good(bank={"type": "file", "path": 5}), "bank.path"),
        (good(bank={"type": "file", "path": "/x", "speed": 1}), "bank.speed"),
        (good(resource_types=[]), "resource_types"),
        (good(resource_types="directory"), "resource_types"),
        (good(resource_types=["a", "a"]), "resource_types"),
        ({"name": "n", "bank": {"type": "memory"}}, "id"),
        ({"id": str(uuid4()), "bank": {"type": "memory"}}, "name"),
    ],
)
def test_a_broken_file_is_named_and_hides_no_other(
    folder: Path, text: str | dict[str, object], words: str
) -> None:
    broken = put(folder, "a.yaml", text)
    put(folder, "b.yaml", good())
    found = opened(folder)
    assert [one.name for one in found.list()] == ["good"]
    (fault,) = found.faults
    assert fault.source == str(broken)
    assert words in fault.reason
    with pytest.raises(NotFoundError, match="not usable"):
        found.get(str(uuid4()))


def test_two_of_one_id_are_one_and_a_fault(folder: Path) -> None:
    same = good()
    put(folder, "a.yaml", same)
    put(folder, "b.yaml", {**same, "name": "second"})
    found = opened(folder)
    assert [one.name for one in found.list()] == ["good"]
    assert str(same["id"]) in found.faults[0].reason


def test_what_others_could_have_written_is_refused(folder: Path, tmp_path: Path) -> None:
    put(folder, "a.yaml", good()).chmod(0o620)
    (folder / "link.yaml").symlink_to(put(tmp_path, "elsewhere.yaml", good()))
    os.mkfifo(folder / "pipe.yaml", 0o600)
    (folder / "folder.yaml").mkdir()
    found = opened(folder)
    assert found.list() == ()
    reasons = {Path(one.source).name: one.reason for one in found.faults}
    assert "chmod go-w" in reasons["a.yaml"]
    assert "symbolic" in reasons["link.yaml"]
    assert "regular" in reasons["pipe.yaml"]
    assert "regular" in reasons["folder.yaml"]
    folder.chmod(0o777)
    (fault,) = found.faults
    assert fault.source == str(folder)


def test_a_changed_file_is_read_anew_and_a_deleted_one_forgotten(folder: Path) -> None:
    found = opened(folder)
    assert found.list() == ()
    path = put(folder, "a.yaml", good(name="first"))
    assert [one.name for one in found.list()] == ["first"]
    put(folder, "a.yaml", good(name="second"))
    assert [one.name for one in found.list()] == ["second"]
    put(folder, "a.yaml", "broken")
    assert (found.list(), len(found.faults)) == ((), 1)
    path.unlink()
    assert (found.list(), found.faults) == ((), ())


def test_an_option_may_be_secret_and_is_not_shown(folder: Path) -> None:
    put(folder, "a.yaml", good(bank={"type": "file", "path": "/x", "password": "hunter2"}, token="hunter3"))
    put(folder, "b.yaml", good(bank={"type": "file", "path": "/x", "password": "hunter2"}))
    words = "".join(map(str, opened(folder).faults))
    assert "bank.password" in words
    assert "hunter" not in words


KARBOR = """\
[provider]
name = old
description = from Karbor
id = 6659007d-6f66-4a0f-9cb4-17d6aded0bb9
plugin = karbor-volume-protection-plugin
plugin = karbor-image-protection-plugin
bank = karbor-fs-bank-plugin
enabled = {enabled}

[file_system_bank_plugin]
file_system_bank_path = /srv/old
"""


def test_karbors_files_are_read_when_they_name_the_file_bank(folder: Path) -> None:
    put(folder, "fs.conf", KARBOR.format(enabled="True"))
    put(folder, "off.conf", KARBOR.format(enabled="False").replace("6659007d", "7659007d"))
    put(folder, "swift.conf", KARBOR.format(enabled="True").replace("karbor-fs-bank", "karbor-swift-bank"))
    put(folder, "no.conf", "[other]\nx = 1\n")
    put(folder, "text.ini", "hello\n")
    put(folder, "maybe.conf", KARBOR.format(enabled="perhaps"))
    found = opened(folder)
    (one,) = found.list()
    assert (one.id, one.name, one.bank) == ("6659007d-6f66-4a0f-9cb4-17d6aded0bb9", "old", "file")
    assert one.bank_options == {"path": "/srv/old"}
    assert [Path(fault.source).name for fault in found.faults] == [
        "maybe.conf",
        "no.conf",
        "swift.conf",
        "text.ini",
    ]
    assert "karbor-swift-bank-plugin" in found.faults[2].reason


def test_the_default_provider_is_made_once_and_keeps_its_id(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.create()
    made = providers.ensure_default(data)
    assert made is not None
    assert providers.ensure_default(data) == made
    assert opened(data.providers).list() == (made,)
    path = data.providers / "default.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("broken")
    assert providers.ensure_default(data) is None
    assert path.read_text() == "broken"
    assert len(opened(data.providers).faults) == 1


def test_no_default_is_made_beside_the_operators_own(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.create()
    data.providers.mkdir(mode=0o700)
    put(data.providers, "mine.yaml", good())
    assert providers.ensure_default(data) is None
    assert [one.name for one in opened(data.providers).list()] == ["good"]
