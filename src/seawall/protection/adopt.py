# SPDX-License-Identifier: Apache-2.0
"""Adopting: a repository that was made with restic becomes the bank of a provider of its own.

Its password is needed once. Seawall adds two key slots, a password of its own and a recovery key, as its own
repositories have (I10); the slots that are there stay, and so does everything else: restic goes on working on
it. Ids are made from the repository's own, so that a second attempt makes the same.

If the process dies after the slots, two more of them open the repository and nobody knows their words; after
the row, the provider is missing: the same command goes on from there.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid5

from seawall.core.errors import ConflictError, InvalidInputError, NotFoundError
from seawall.core.records import Json, Provider
from seawall.core.records import Repository as RepositoryRow
from seawall.db import audit
from seawall.db import repositories as rows
from seawall.protection import providers, repositories
from seawall.protection.bank_layers.opening import open_bank
from seawall.protection.movers.locking import SessionLock
from seawall.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from seawall.db.session import Database, Tx
    from seawall.runtime.registry import Plugins
    from seawall.runtime.secrets import InstallKey
    from seawall.sdk.bank import Bank

# The name space of ids that are made from those of repositories; never changes.
_NAMES: Final = UUID("3b1f2a52-5f0e-4a4e-9d57-2d1c6f0f9d11")


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was taken over."""

    repository_id: str
    provider: Provider
    snapshots: int


def id_of(format_id: str) -> str:
    """The id of an adopted repository: it follows from the one in its own config."""
    return str(UUID(format_id[:32]))


def adopt(
    folder: Path,
    database: Database,
    install_key: InstallKey,
    banks: Plugins[Bank],
    *,
    project_id: str,
    name: str,
    bank: str,
    options: Json,
    password: str,
) -> Adopted:
    """Make it a repository of the project, and write its provider into ``folder``.

    ``ConflictError`` when that has been done or the name is taken, ``InvalidInputError`` when the options are
    no bank's, ``BankObjectMissingError`` when nothing lies there, ``WrongKeyError`` for another password.
    """
    provider = Provider(str(uuid5(_NAMES, name)), name, "Adopted", bank, options, ())
    providers.check_bank(provider, banks)
    opened = open_bank(banks.get(bank), options, {}, database.clock)
    try:
        found = Repository.open(opened, password=password, now=database.clock.now())
        repository_id = id_of(found.id)
        provider = replace(provider, id=str(uuid5(_NAMES, repository_id)), adopted=repository_id)
        path = folder / f"{name}.yaml"
        if _is_known(database, repository_id):
            if path.exists():
                raise ConflictError(f"the repository is {repository_id} of this installation already")
        else:
            if path.exists():
                raise InvalidInputError.of("name", name, f"is taken: there is a file {path}")
            _take(database, install_key, found, provider, project_id)
        providers.write(folder, name, provider)
        return Adopted(repository_id, provider, len(found.snapshots()))
    finally:
        opened.close()


def _is_known(database: Database, repository_id: str) -> bool:
    try:
        database.read(lambda connection: rows.get(connection, repository_id, project_id=None))
    except NotFoundError:
        return False
    return True


def _take(
    database: Database, install_key: InstallKey, found: Repository, provider: Provider, project_id: str
) -> None:
    """Two key slots, then the row that keeps their words sealed."""
    repository_id = id_of(found.id)
    password, recovery_key = repositories.new_password(), repositories.new_recovery_key()
    lock = SessionLock(found, database.clock)
    try:
        for word in (password, recovery_key):
            found.add_key(word, now=database.clock.now())
    finally:
        lock.release()
    secrets = repositories.sealed(install_key, repository_id, password=password, recovery_key=recovery_key)

    def insert(tx: Tx) -> None:
        row = RepositoryRow(
            id=repository_id,
            provider_id=provider.id,
            project_id=project_id,
            group=repositories.DEFAULT_GROUP,
            format_id=found.id,
            created_at=tx.now,
            kit_acknowledged_at=None,
        )
        rows.insert(tx, row, secrets)
        details = {"provider_id": provider.id, "host": socket.gethostname()}
        audit.record(tx, None, "adopt", "repository", repository_id, details)

    database.write("repositories.adopt", insert)
