# SPDX-License-Identifier: Apache-2.0
"""Each repository has its own random keys, sealed in the database and told in the recovery kit (I10)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError, NotFoundError, WrongKeyError
from seawall.core.records import Repository
from seawall.db import audit
from seawall.db import repositories as rows
from seawall.protection import recovery_kit, repositories
from seawall.protection.recovery_kit import parse
from seawall.runtime.secrets import InstallKey
from tests.catalogue.ground import Ground


def ensure(ground: Ground, group: str = "default", project_id: str | None = None) -> Repository:
    return repositories.ensure(
        ground.database,
        ground.install_key,
        provider_id=ground.provider.id,
        project_id=project_id or ground.project_id,
        group=group,
    )


def secrets_of(ground: Ground, one: Repository) -> tuple[str, str]:
    return ground.database.read(
        lambda c: (
            repositories.password(c, ground.install_key, one.id),
            repositories.recovery_key(c, ground.install_key, one.id),
        )
    )


def test_there_is_one_for_each_provider_project_and_group(ground: Ground) -> None:
    one = ensure(ground)
    assert ensure(ground) == one
    assert len({one.id, ensure(ground, "cold").id, ensure(ground, project_id=ground.other_id).id}) == 3
    assert len(ground.database.read(rows.listed)) == 3
    with pytest.raises(NotFoundError):
        ground.database.read(lambda c: rows.get(c, one.id, project_id=ground.other_id))
    assert len(ground.database.read(lambda c: audit.newest(c, object_id=one.id))) == 1


def test_many_at_once_make_one(ground: Ground) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {one.id for one in pool.map(lambda _: ensure(ground), range(30))}
    assert len(found) == 1


def test_keys_are_random_sealed_and_bound_to_their_repository(ground: Ground) -> None:
    first, second = ensure(ground), ensure(ground, "other")
    keys = {*secrets_of(ground, first), *secrets_of(ground, second)}
    assert len(keys) == 4
    assert all(len(key) >= 43 for key in keys)
    stored = ground.database.read(lambda c: rows.sealed(c, first.id))
    ground.database.close()
    content = b"".join(path.read_bytes() for path in ground.data.path.glob("seawall.db*")).decode("latin-1")
    assert not any(key in content for key in keys)
    assert "sealed" not in repr(stored)
    with pytest.raises(WrongKeyError, match="install key"):
        InstallKey(bytes(32)).open(stored.password, purpose=f"password of repository {first.id}")


def test_the_kit_names_everything_and_is_its_owners_alone(ground: Ground) -> None:
    first = ensure(ground)
    path = ground.data.recovery_kit
    assert recovery_kit.ensure(path, ground.database, ground.install_key, [ground.provider])
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    for word in (
        first.id,
        ground.project_id,
        secrets_of(ground, first)[1],
        str(ground.data.bank),
        "restic -r",
    ):
        assert word in text
    assert secrets_of(ground, first)[0] not in text, "the movers' password needs not be known to people"
    assert not recovery_kit.ensure(path, ground.database, ground.install_key, [ground.provider])
    second = ensure(ground, "cold")
    assert recovery_kit.ensure(path, ground.database, ground.install_key, [])
    assert [one.repository_id for one in parse(path.read_text())] == [first.id, second.id]
    path.write_bytes(b"\xff\x00")
    assert recovery_kit.ensure(path, ground.database, ground.install_key, [ground.provider])
    assert len(parse(path.read_text())) == 2


def test_an_acknowledgement_is_for_what_is_there_now(ground: Ground) -> None:
    first = ensure(ground)

    def acknowledge() -> int:
        return ground.database.write("test", lambda tx: recovery_kit.acknowledge(tx, ground.caller))

    assert (acknowledge(), acknowledge()) == (1, 0)
    assert ensure(ground).kit_acknowledged_at == ground.clock.now()
    second = ensure(ground, "new")
    assert second.kit_acknowledged_at is None
    assert acknowledge() == 1
    entries = ground.database.read(lambda c: audit.newest(c, object_id=first.id))
    assert [one.action for one in entries] == ["acknowledge", "create"]


def test_a_bank_with_an_odd_name_cannot_forge_a_line(ground: Ground, tmp_path: Path) -> None:
    from dataclasses import replace

    ensure(ground)
    odd = replace(ground.provider, bank_options={"path": "/srv/a\nkey: FORGED-KEY-0000"})
    text = recovery_kit.render(ground.database, ground.install_key, [odd])
    assert [one.key for one in parse(text)] == [secrets_of(ground, ground.database.read(rows.listed)[0])[1]]


@pytest.mark.parametrize("text", ["", " \n", "a b", "repository: x\nkey: y", "short", "two\nlines"])
def test_what_is_no_kit_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse(text)
    assert caught.value.fields[0].value == "(hidden)"


@given(text=st.text(max_size=300))
def test_any_text_is_a_kit_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except InvalidInputError:
        return
    assert found
    assert all(one.key for one in found)


def test_a_kit_survives_mail_and_paper(ground: Ground) -> None:
    one = ensure(ground)
    key = secrets_of(ground, one)[1]
    text = recovery_kit.render(ground.database, ground.install_key, [ground.provider])
    changed = "\r\n".join(f"   {line}  " for line in text.splitlines())
    (found,) = parse(changed)
    assert (found.repository_id, found.key) == (one.id, key)
    for typed in (
        f"\n{key}\n",
        key.lower(),
        key.replace("-", " "),
        key.replace("-", ""),
        key[:29] + "\n" + key[30:],
    ):
        assert parse(typed) == (recovery_kit.KitKey(None, key),)
    assert parse(f"key: {key.lower().replace('-', ' ')}")[0].key == key
    assert parse("My-own-password1")[0].key == "My-own-password1"
