# SPDX-License-Identifier: Apache-2.0
"""Which repository holds what: one for each (provider, project, group), each with two random keys (I10).

The repository lies at ``<bank>/<repository id>``. Its row, with both keys sealed, is there before its first
byte: a process that dies here leaves a row without a repository, and the next backup makes it with the same
keys. The recovery key is a second password of the same repository, for people.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from seawall.core.records import Repository
from seawall.db import audit
from seawall.db import repositories as rows

if TYPE_CHECKING:
    from seawall.db.session import Connection, Database, Tx
    from seawall.runtime.secrets import InstallKey

DEFAULT_GROUP: Final = "default"
# No letters or digits that look like others: a key may be typed from paper.
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS: Final = 10
_GROUP_LENGTH: Final = 5


def ensure(
    database: Database,
    install_key: InstallKey,
    *,
    provider_id: str,
    project_id: str,
    group: str = DEFAULT_GROUP,
) -> Repository:
    """The repository of a provider, project and group; its row and keys are made when there is none."""
    found = database.read(
        lambda connection: rows.find(connection, provider_id=provider_id, project_id=project_id, group=group)
    )
    if found is not None:
        return found
    return database.write(
        "repositories.ensure",
        lambda tx: ensure_within(
            tx, install_key, provider_id=provider_id, project_id=project_id, group=group
        ),
    )


def ensure_within(
    tx: Tx,
    install_key: InstallKey,
    *,
    provider_id: str,
    project_id: str,
    group: str = DEFAULT_GROUP,
) -> Repository:
    """As ``ensure``, as part of a transaction."""
    found = rows.find(tx.connection, provider_id=provider_id, project_id=project_id, group=group)
    if found is not None:
        return found
    made = Repository(
        id=str(uuid4()),
        provider_id=provider_id,
        project_id=project_id,
        group=group,
        format_id=None,
        created_at=tx.now,
        kit_acknowledged_at=None,
    )
    stored = rows.insert(
        tx,
        made,
        sealed(install_key, made.id, password=new_password(), recovery_key=new_recovery_key()),
    )
    audit.record(tx, None, "create", "repository", stored.id, {"provider_id": provider_id, "group": group})
    return stored


def sealed(
    install_key: InstallKey, repository_id: str, *, password: str, recovery_key: str
) -> rows.SealedSecrets:
    """Both keys as they are stored."""
    return rows.SealedSecrets(
        password=install_key.seal(password, purpose=_purpose("password", repository_id)),
        recovery_key=install_key.seal(recovery_key, purpose=_purpose("recovery key", repository_id)),
    )


def password(connection: Connection, install_key: InstallKey, repository_id: str) -> str:
    """The password that movers open it with."""
    found = rows.sealed(connection, repository_id)
    return install_key.open(found.password, purpose=_purpose("password", repository_id))


def recovery_key(connection: Connection, install_key: InstallKey, repository_id: str) -> str:
    """The password that stands in the recovery kit."""
    found = rows.sealed(connection, repository_id)
    return install_key.open(found.recovery_key, purpose=_purpose("recovery key", repository_id))


def new_password() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def new_recovery_key() -> str:
    """About 248 random bits, in groups that can be read aloud."""
    groups = ["".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)]
    return "-".join(groups)


def tidy_recovery_key(text: str) -> str:
    """A recovery key as it was made, however it was typed: in small letters, with blanks or without dashes.

    Text that is none of ours (a password that somebody chose with `restic`) stays as it is.
    """
    letters = re.sub(r"[\s-]", "", text).upper()
    if len(letters) != _GROUPS * _GROUP_LENGTH or not set(letters) <= set(_ALPHABET):
        return text
    return "-".join(letters[at : at + _GROUP_LENGTH] for at in range(0, len(letters), _GROUP_LENGTH))


def _purpose(what: str, repository_id: str) -> str:
    return f"{what} of repository {repository_id}"
