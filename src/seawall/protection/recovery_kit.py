# SPDX-License-Identifier: Apache-2.0
"""The recovery kit: a text that, with the bank, brings everything back on an empty machine (I9, I10).

It names each repository, where it lies, and its recovery key, which is also a password for `restic`. It is
written for its owner alone (0600); ``seawall doctor`` warns until somebody says that a copy lies elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from seawall.core.errors import InvalidInputError
from seawall.core.records import Provider, Repository
from seawall.db import audit
from seawall.db import repositories as rows
from seawall.protection import repositories
from seawall.runtime.folder import write_private

if TYPE_CHECKING:
    from seawall.core.caller import Caller
    from seawall.db.session import Connection, Database, Tx
    from seawall.runtime.secrets import InstallKey

_LINE: Final = re.compile(r"^[ \t]*(repository|key)[ \t]*:[ \t]*(\S[^\r\n]*?)[ \t]*\r?$", re.MULTILINE)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BARE_KEY: Final = re.compile(r"\S{8,512}")
_MOST_CHARACTERS: Final = 1 << 20
# Options of banks that say where they are; none of them is ever secret.
_WHERE: Final = ("path", "endpoint", "bucket", "prefix")

_HEAD: Final = """\
SEAWALL RECOVERY KIT

Whoever has this text and the bank can read every backup in it. Keep a copy away from this machine: on paper,
or in a password manager. Then tell Seawall: seawall recovery-kit acknowledge
"""
_TAIL: Final = """\
To bring everything back on an empty machine, with the bank at FOLDER (or a provider's file that says where):
  seawall recover --bank FOLDER --key THIS-FILE
Without Seawall, with restic alone (it asks for the key):
  restic -r FOLDER/REPOSITORY snapshots
"""


@dataclass(frozen=True, slots=True, repr=False)
class KitKey:
    """A recovery key, and the repository that it is for; None when only a key was given."""

    repository_id: str | None
    key: str


def render(database: Database, install_key: InstallKey, providers: Sequence[Provider]) -> str:
    """The kit of all repositories, in the order of their making."""
    by_id = {one.id: one for one in providers}

    def entries(connection: Connection) -> list[str]:
        return [
            _entry(one, by_id, repositories.recovery_key(connection, install_key, one.id))
            for one in rows.listed(connection)
        ]

    return "\n".join([_HEAD, *database.read(entries), _TAIL])


def ensure(path: Path, database: Database, install_key: InstallKey, providers: Sequence[Provider]) -> bool:
    """Write the kit, for its owner alone, when there is none or it lacks a repository; whether it was."""
    try:
        kept = {one.repository_id for one in parse(path.read_text(encoding="utf-8"))}
    except (FileNotFoundError, UnicodeDecodeError, InvalidInputError):
        kept = set()
    if all(one.id in kept for one in database.read(rows.listed)) and kept:
        return False
    write_private(path, render(database, install_key, providers))
    return True


def parse(text: str) -> tuple[KitKey, ...]:
    """The keys in a kit, or in a text that is only a key.

    ``InvalidInputError`` of the field ``key`` when there is none; the text itself is never shown.
    """
    if len(text) > _MOST_CHARACTERS:
        raise InvalidInputError.of("key", "(hidden)", "is too long to be a recovery kit")
    found: list[KitKey] = []
    repository_id: str | None = None
    for name, value in _LINE.findall(text):
        if name == "key":
            found.append(KitKey(repository_id, repositories.tidy_recovery_key(value)))
            repository_id = None
        elif _UUID.fullmatch(value.lower()):
            repository_id = value.lower()
        else:
            raise InvalidInputError.of("key", "(hidden)", "is damaged: after `repository:` must be a UUID")
    if found:
        return tuple(found)
    alone = repositories.tidy_recovery_key(text.strip())
    if _BARE_KEY.fullmatch(alone):
        return (KitKey(None, alone),)
    raise InvalidInputError.of("key", "(hidden)", "is neither a recovery kit nor a key alone")


def acknowledge(tx: Tx, caller: Caller | None) -> int:
    """Somebody says that a copy lies elsewhere; for how many repositories that is new. May be repeated."""
    new = rows.acknowledge(tx)
    for repository_id in new:
        audit.record(tx, caller, "acknowledge", "recovery_kit", repository_id)
    return len(new)


def _entry(repository: Repository, providers: Mapping[str, Provider], key: str) -> str:
    provider = providers.get(repository.provider_id)
    if provider is None:
        place = f"a bank whose provider {repository.provider_id} is not in providers.d now"
    else:
        place = provider.bank
        for name in _WHERE:
            where = provider.bank_options.get(name)
            if isinstance(where, str):
                # One line whatever its name: the lines below are read back.
                place += f" {where if where.isprintable() else repr(where)}"
        if provider.adopted is not None:
            place += " (the repository lies at its root)"
    return (
        f"bank: {place}\n"
        f"repository: {repository.id}\n"
        f"project: {repository.project_id}\n"
        f"made: {repository.created_at:%Y-%m-%d %H:%M} UTC\n"
        f"key: {key}\n"
    )
