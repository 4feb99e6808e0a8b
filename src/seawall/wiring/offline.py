# SPDX-License-Identifier: Apache-2.0
"""What works without a running service: recovering, looking into a bank, and the recovery kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.core.records import Repository as RepositoryRow
from seawall.db import repositories as rows
from seawall.db.migrations import upgrade
from seawall.db.session import Database
from seawall.protection import allowlist, recovery_kit, repositories
from seawall.protection import recover as recovery
from seawall.protection.providers import Providers
from seawall.protection.recover import Recovered
from seawall.repository import Repository
from seawall.repository.locks import RepositoryLock
from seawall.runtime.config import Settings
from seawall.runtime.lifecycle import exclusive
from seawall.runtime.secrets import InstallKey
from seawall.sdk.bank import SubBank
from seawall.sdk.clock import Clock
from seawall.wiring import plugins
from seawall.wiring.install import ADMIN

Json = dict[str, Any]


@contextmanager
def opened_installation(settings: Settings, clock: Clock) -> Iterator[tuple[Database, InstallKey]]:
    """An installation that exists; nothing is made. ``NotFoundError`` when there is none."""
    folder = settings.folder
    if not folder.install_key.exists():
        raise NotFoundError(
            f"there is no installation in {folder.path}",
            hint="`seawall serve` makes one; --data-dir or SEAWALL_DATA_DIR names another data folder",
        )
    database = Database(settings.database, clock)
    try:
        upgrade(database)
        yield database, InstallKey.load(folder.install_key)
    finally:
        database.close()


def recover(settings: Settings, clock: Clock, *, bank: Path, key_text: str) -> Recovered:
    """Rebuild an installation on an empty data folder (I9); what a first start makes else is made, too.

    If the process dies here the rows are not there, and the next try begins anew.
    """
    folder = settings.folder
    folder.create()
    with exclusive(folder.lock("setup")):
        install_key = InstallKey.load_or_create(folder.install_key)
        database = Database(settings.database, clock)
        try:
            upgrade(database)
            found = recovery.recover(
                folder,
                database,
                install_key,
                plugins.load_banks(),
                bank=bank,
                key_text=key_text,
                host=settings.host,
            )
            allowlist.ensure_default(folder.projects, ADMIN)
            known = Providers(folder.providers, plugins.load_banks()).list()
            recovery_kit.ensure(folder.recovery_kit, database, install_key, known)
        finally:
            database.close()
    return found


class RecoveryKit:
    """The recovery kit of an installation."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    def kit(self) -> str:
        """The whole text, as of now."""
        known = Providers(self._settings.folder.providers, plugins.load_banks()).list()
        with opened_installation(self._settings, self._clock) as (database, install_key):
            return recovery_kit.render(database, install_key, known)

    def key(self, repository: str | None = None) -> str:
        """The key of one repository: the password for restic."""
        with opened_installation(self._settings, self._clock) as (database, install_key):
            found = _chosen(database.read(rows.listed), repository)
            return database.read(lambda c: repositories.recovery_key(c, install_key, found.id))

    def acknowledge(self) -> int:
        """Somebody has a copy elsewhere; for how many repositories that is new."""
        with opened_installation(self._settings, self._clock) as (database, _):
            return database.write("kit.acknowledge", lambda tx: recovery_kit.acknowledge(tx, None))


class OpenedRepository:
    """A repository on its bank, for people who look into it."""

    def __init__(self, repository: Repository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    def snapshots(self, tags: Sequence[str]) -> list[Json]:
        return [
            {
                "id": one.id,
                "time": one.time.isoformat(),
                "hostname": one.hostname,
                "paths": list(one.paths),
                "tags": list(one.tags),
                "tree": one.tree,
            }
            for one in self._repository.snapshots(tags)
        ]

    def check(self, *, read_data: bool) -> list[str]:
        """What is damaged, a line each; under a shared lock, so that nothing is removed meanwhile."""
        lock = RepositoryLock.acquire(self._repository.bank, self._repository.key, now=self._clock.now())
        try:
            found = self._repository.check(
                read_data=read_data, progress=lambda *_: lock.keep(self._clock.now())
            )
        finally:
            lock.release()
        return [str(one) for one in found]

    def locks(self) -> list[Json]:
        return [
            {
                "id": one.id,
                "time": one.time.isoformat(),
                "hostname": one.hostname,
                "exclusive": one.exclusive,
            }
            for one in self._repository.locks()
        ]


@contextmanager
def open_repository(settings: Settings, clock: Clock, which: str | None) -> Iterator[OpenedRepository]:
    """Open a repository by its id, or the only one there is."""
    with opened_installation(settings, clock) as (database, install_key):
        found = _chosen(database.read(rows.listed), which)
        providers = Providers(settings.folder.providers, plugins.load_banks())
        bank = providers.open_bank(providers.get(found.provider_id))
        try:
            password = database.read(lambda c: repositories.password(c, install_key, found.id))
            opened = Repository.open(SubBank(bank, found.id), password=password, now=clock.now())
            yield OpenedRepository(opened, clock)
        finally:
            bank.close()


def _chosen(there: Sequence[RepositoryRow], which: str | None) -> RepositoryRow:
    by_id: Mapping[str, RepositoryRow] = {one.id: one for one in there}
    if which is not None:
        if which not in by_id:
            raise NotFoundError(f"there is no repository {which}; there are {', '.join(by_id) or 'none'}")
        return by_id[which]
    if len(by_id) != 1:
        names = ", ".join(by_id) or "none"
        raise InvalidInputError.of("--repository", None, f"must name one of the repositories: {names}")
    return next(iter(by_id.values()))
