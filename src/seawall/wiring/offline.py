# SPDX-License-Identifier: Apache-2.0
"""What works without a running service: recovering, looking into a bank, and the recovery kit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.core.records import Repository as RepositoryRow
from seawall.db import projects
from seawall.db import repositories as rows
from seawall.db.migrations import upgrade
from seawall.db.session import Database
from seawall.protection import allowlist, recovery_kit, repositories
from seawall.protection import recover as recovery
from seawall.protection.adopt import Adopted, adopt
from seawall.protection.providers import Providers
from seawall.protection.recover import Recovered
from seawall.repository import Repository
from seawall.runtime.config import Settings
from seawall.runtime.lifecycle import exclusive
from seawall.runtime.secrets import InstallKey
from seawall.sdk.bank import Bank, SubBank
from seawall.sdk.clock import Clock
from seawall.wiring import plugins
from seawall.wiring.install import ADMIN
from seawall.wiring.opened_repository import OpenedRepository


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


@dataclass(frozen=True, slots=True)
class RepositoryPlace:
    """Which repository is meant: one of the installation, or any that lies in a folder."""

    repository: str | None = None
    """Its id; the only one when there is no more than one."""
    at: Path | None = None
    """The folder of a repository, as ``restic -r`` takes it; it needs no installation."""
    password: Callable[[], str] | None = None
    """Asks for the password of the one in a folder; of the installation's own ones it is known."""


@contextmanager
def open_repository(
    settings: Settings, clock: Clock, place: RepositoryPlace, *, read_index: bool = True
) -> Iterator[OpenedRepository]:
    """Open a repository. Without its index it can be repaired when an index file is damaged."""
    with _bank_and_password(settings, clock, place) as (bank, password, recovery_key):
        opened = Repository.open(bank, password=password(), now=clock.now(), read_index=read_index)
        yield OpenedRepository(opened, clock, recovery_key=recovery_key)


def init_repository(settings: Settings, clock: Clock, place: RepositoryPlace) -> str:
    """Make a repository: in a folder with its own password, or one of the installation before its first use.

    Its id. If the process dies here, it is there whole or the same command makes it.
    """
    if place.at is not None:
        with _bank_and_password(settings, clock, place) as (bank, password, _):
            return Repository.init(bank, passwords=[password()], now=clock.now()).id
    with opened_installation(settings, clock) as (database, install_key):
        found = _chosen(database.read(rows.listed), place.repository)
        words = [
            database.read(lambda c: repositories.password(c, install_key, found.id)),
            database.read(lambda c: repositories.recovery_key(c, install_key, found.id)),
        ]
        with _bank_of(settings, clock, found) as bank:
            made = Repository.init(bank, passwords=words, now=clock.now()).id
        database.write("repositories.format", lambda tx: rows.set_format_id(tx, found.id, made))
        return made


def adopt_repository(
    settings: Settings,
    clock: Clock,
    *,
    name: str,
    bank: str,
    options: dict[str, Any],
    password: str,
) -> Adopted:
    """Take over a repository that restic made, as a provider of its own, for the admin project."""
    folder = settings.folder
    with opened_installation(settings, clock) as (database, install_key):
        banks = plugins.load_banks()
        found = adopt(
            folder.providers,
            database,
            install_key,
            banks,
            project_id=database.read(lambda c: projects.find(c, ADMIN)),
            name=name,
            bank=bank,
            options=options,
            password=password,
        )
        known = Providers(folder.providers, banks).list()
        recovery_kit.ensure(folder.recovery_kit, database, install_key, known)
    return found


@contextmanager
def _bank_and_password(
    settings: Settings, clock: Clock, place: RepositoryPlace
) -> Iterator[tuple[Bank, Callable[[], str], str | None]]:
    """Its bank, its password, and the key in the recovery kit if it is one of the installation's."""
    if place.at is not None:
        assert place.password is not None
        options = {"path": str(place.at.expanduser().absolute())}
        bank = plugins.load_banks().get("file")(**options)
        try:
            yield bank, place.password, None
        finally:
            bank.close()
        return
    with opened_installation(settings, clock) as (database, install_key):
        found = _chosen(database.read(rows.listed), place.repository)
        word = database.read(lambda c: repositories.password(c, install_key, found.id))
        recovery_key = database.read(lambda c: repositories.recovery_key(c, install_key, found.id))
        with _bank_of(settings, clock, found) as bank:
            yield bank, lambda: word, recovery_key


@contextmanager
def _bank_of(settings: Settings, clock: Clock, found: RepositoryRow) -> Iterator[Bank]:
    """The place of a repository of the installation."""
    providers = Providers(settings.folder.providers, plugins.load_banks(), clock=clock)
    bank = providers.open_bank(providers.get(found.provider_id))
    try:
        yield SubBank(bank, found.id)
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
