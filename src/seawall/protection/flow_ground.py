# SPDX-License-Identifier: Apache-2.0
"""What every flow stands on: the database, the movers, and where a repository lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seawall.core.records import Json, Repository
from seawall.db import repositories as rows
from seawall.protection import repositories

if TYPE_CHECKING:
    from seawall.db.session import Connection, Database
    from seawall.protection.allowlist import AllowList
    from seawall.protection.movers.pool import Mover, MoverPool
    from seawall.protection.providers import Providers
    from seawall.runtime.secrets import InstallKey
    from seawall.sdk.clock import Clock
    from seawall.sdk.operation import OperationContext


@dataclass(frozen=True, slots=True)
class Ground:
    """The parts that flows use."""

    database: Database
    clock: Clock
    install_key: InstallKey
    providers: Providers
    allowlist: AllowList
    movers: MoverPool
    host: str
    lease_s: float

    def place(self, repository: Repository, *, may_create: bool = False) -> Json:
        """Where a repository lies and what opens it, for a mover. It holds secrets: never log it (I10)."""
        return self.database.read(
            lambda connection: self.place_within(connection, repository, may_create=may_create)
        )

    def place_within(
        self, connection: Connection, repository: Repository, *, may_create: bool = False
    ) -> Json:
        """As ``place``, as part of other reads."""
        provider = self.providers.get(repository.provider_id)
        password = repositories.password(connection, self.install_key, repository.id)
        found: Json = {
            "repository_id": repository.id,
            "bank": provider.bank,
            "bank_options": provider.bank_options,
            "limits": provider.limits,
            "adopted": provider.adopted,
            "engine": provider.engine,
            "password": password,
            "format_id": repository.format_id,
        }
        if may_create and repository.format_id is None:
            found["may_create"] = True
            found["recovery_key"] = repositories.recovery_key(connection, self.install_key, repository.id)
        return found

    def repository(self, repository_id: str) -> Repository:
        """Its row."""
        return self.database.read(lambda connection: rows.get(connection, repository_id, project_id=None))

    def remember_format(self, repository: Repository, format_id: str) -> None:
        """Note the id of a repository that was just made: from now on it must be there (I5)."""
        if repository.format_id != format_id:
            self.database.write(
                "repositories.format", lambda tx: rows.set_format_id(tx, repository.id, format_id)
            )

    def make(self, mover: Mover, repository: Repository, check: Callable[[], None]) -> Repository:
        """Have the repository on its bank, made if it never was; its row as it is then."""
        if repository.format_id is not None:
            return repository
        answer = mover.call("open", {"place": self.place(repository, may_create=True)}, check=check)
        self.remember_format(repository, answer["format_id"])
        return self.repository(repository.id)

    def access(self, mover: Mover, context: OperationContext) -> Json:
        """What a step in a mover may touch."""
        return {
            "allowed_roots": [str(one) for one in self.allowlist.roots(context.project_id)],
            "excludes": [str(one.path) for one in self.allowlist.excluded()],
            "scratch": str(mover.scratch),
        }
