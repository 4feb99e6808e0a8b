# SPDX-License-Identifier: Apache-2.0
"""The install key opens what it sealed, for the same purpose, and nothing else does (I10)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import ConfigurationError, DamagedError, WrongKeyError
from seawall.runtime.secrets import InstallKey

KEY = InstallKey(bytes(range(32)))
OTHER = InstallKey(bytes(32))


@given(secret=st.text(), purpose=st.text())
def test_what_was_sealed_opens_again(secret: str, purpose: str) -> None:
    try:
        secret.encode()
        purpose.encode()
    except UnicodeEncodeError:
        return
    sealed = KEY.seal(secret, purpose=purpose)
    assert KEY.open(sealed, purpose=purpose) == secret
    assert KEY.seal(secret, purpose=purpose) != sealed
    with pytest.raises(DamagedError):
        KEY.open(sealed, purpose=purpose + "x")
    with pytest.raises(WrongKeyError):
        OTHER.open(sealed, purpose=purpose)


@given(data=st.data())
def test_a_changed_sealed_text_never_opens(data: st.DataObject) -> None:
    sealed = KEY.seal("the secret", purpose="p")
    place = data.draw(st.integers(0, len(sealed) - 1))
    character = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = sealed[:place] + character + sealed[place + 1 :]
    if changed == sealed:
        return
    with pytest.raises((DamagedError, WrongKeyError)) as caught:
        KEY.open(changed, purpose="p")
    assert "the secret" not in str(caught.value)


@pytest.mark.parametrize("sealed", ["", "s1", "s1.", "s1.x.", "s2.00.AA", "plain text", "s1.aa.bb.cc"])
def test_what_is_no_sealed_text_is_said_to_be_none(sealed: str) -> None:
    with pytest.raises((DamagedError, WrongKeyError)):
        KEY.open(sealed, purpose="p")


def test_the_key_file_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "install-key"
    first = InstallKey.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert InstallKey.load_or_create(path).open(first.seal("s", purpose="p"), purpose="p") == "s"
    assert [one.name for one in tmp_path.iterdir()] == ["install-key"]
    assert path.read_text().split(":")[1] not in repr(first)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "install-key"
    InstallKey.load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        InstallKey.load_or_create(path)


@pytest.mark.parametrize("damage", ["cut", "empty", "edited", "other", "binary"])
def test_a_damaged_key_file_is_said_to_be_so_and_never_replaced(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "install-key"
    InstallKey.load_or_create(path)
    text = path.read_text()
    digit = "0" if text[30] != "0" else "1"
    content = {
        "cut": text[:40],
        "empty": "",
        "edited": text[:30] + digit + text[31:],
        "other": "some other file\n",
        "binary": "\x00\x01" * 40,
    }[damage]
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        InstallKey.load_or_create(path)
    assert caught.value.fields[0].field == "install_key"
    assert caught.value.fields[0].value == str(path)
    assert text.split(":")[1] not in str(caught.value)
    assert path.read_text() == content


def test_a_symlink_or_folder_is_no_key_file(tmp_path: Path) -> None:
    InstallKey.load_or_create(tmp_path / "key")
    (tmp_path / "link").symlink_to("key")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(ConfigurationError):
            InstallKey.load_or_create(tmp_path / name)


def test_a_killed_first_start_leaves_a_key_or_none(tmp_path: Path) -> None:
    """What ``write_private`` leaves behind is no key file and stops nobody."""
    left = tmp_path / f"install-key.{os.getpid()}.new"
    left.write_text("half")
    InstallKey.load_or_create(tmp_path / "install-key")
    assert not left.exists()
