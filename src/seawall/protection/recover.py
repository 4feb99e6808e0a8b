# SPDX-License-Identifier: Apache-2.0
"""Recovery: a bank and the recovery key become an installation again (I9).

Every snapshot says of itself which checkpoint it is and which policy it was made under (``flow_manifest``).
All of it is read first; then the provider's file is written, and all rows in one transaction. If the process
dies here, the database is still empty and the same command does it all again. The bank is only read.

The newest good checkpoint of each plan is pinned: schedules go on at once, on a machine whose data is not
back yet, and what they make of it must never push out what is to be restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from seawall.core.errors import (
    BankObjectMissingError,
    ConfigurationError,
    ConflictError,
    DamagedError,
    InvalidInputError,
    NotFoundError,
    SeawallError,
    WrongKeyError,
)
from seawall.core.records import Checkpoint, Provider
from seawall.core.states import RESTORABLE, CheckpointStatus
from seawall.db import projects
from seawall.db import repositories as repository_rows
from seawall.protection import flow_manifest, providers, recover_rows
from seawall.protection.bank_layers.opening import open_bank
from seawall.protection.movers.work import MANIFEST_FOLDER, MANIFEST_NAME
from seawall.protection.policy import read_policy
from seawall.protection.recover_rows import FoundCheckpoint, FoundRepository
from seawall.protection.recovery_kit import KitKey, parse
from seawall.repository import Repository
from seawall.runtime import operator_files
from seawall.sdk.bank import Bank, SubBank

if TYPE_CHECKING:
    from seawall.db.session import Database
    from seawall.repository.snapshot import Snapshot
    from seawall.runtime.folder import DataFolder
    from seawall.runtime.registry import Plugins
    from seawall.runtime.secrets import InstallKey

_BANK: Final = "file"
_MANIFEST: Final = f"{MANIFEST_FOLDER}/{MANIFEST_NAME}"
# More than any manifest has; a longer one is not read.
_MOST_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came back, and what did not."""

    repositories: int
    checkpoints: int
    plans: int
    triggers: int
    operations: int
    faults: tuple[str, ...]
    """What is there and could not be recovered."""
    notes: tuple[str, ...]
    """What was left alone on purpose, and what is worth knowing."""


@dataclass(slots=True)
class _Report:
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recover(
    folder: DataFolder,
    database: Database,
    install_key: InstallKey,
    banks: Plugins[Bank],
    *,
    bank: Path,
    key_text: str,
    host: str,
) -> Recovered:
    """Rebuild providers, projects, repositories, checkpoints, plans and schedules from a bank.

    ``bank`` is its folder, or a provider's file (or only the ``bank:`` part of one) that says where it is.
    Call it under the set-up lock, on a database that is migrated and empty, before anything else is made in
    it. ``host`` is this machine's name: plans that were bound to a host are bound to this one.
    ``ConflictError`` when there is something already, ``InvalidInputError`` when the folder is no bank or the
    text holds no key, ``WrongKeyError`` when the key opens nothing. What is damaged is a fault, and the rest
    comes back.
    """
    _refuse_used(database, folder)
    keys = parse(key_text)
    place = _place(bank)
    providers.check_bank(place, banks)
    opened = open_bank(
        banks.get(place.bank), place.bank_options, place.limits, database.clock, adopted=place.adopted
    )
    report = _Report()
    try:
        there = _listed_ids(opened, place, bank) if bank.is_file() else _repository_ids(bank)
        found = _read_all(opened, there, bank, keys, database, report)
    finally:
        opened.close()
    for number, provider in enumerate(_providers(found, place)):
        name = providers.DEFAULT_NAME if number == 0 else f"recovered-{provider.id[:8]}"
        _write_provider(folder, name, provider)
    counts = database.write(
        "recover.rows",
        lambda tx: recover_rows.insert_all(tx, install_key, found, host=host),
    )
    return Recovered(
        repositories=len(found),
        checkpoints=counts.checkpoints,
        plans=counts.plans,
        triggers=counts.triggers,
        operations=counts.operations,
        faults=(*report.faults, *counts.faults),
        notes=(*report.notes, *counts.notes),
    )


def _refuse_used(database: Database, folder: DataFolder) -> None:
    """Nothing that is there is ever mixed with what comes back."""
    is_used = database.read(lambda c: bool(projects.listed(c) or repository_rows.listed(c)))
    if is_used:
        raise ConflictError(
            f"the data folder {folder.path} already holds an installation",
            hint="recover into an empty one: --data-dir, or SEAWALL_DATA_DIR",
        )


# --- reading the bank --------------------------------------------------------------------------


def _place(bank: Path) -> Provider:
    """The bank in a folder, or the one that a file describes, as a provider without checkpoints."""
    if not bank.is_file():
        return Provider("", "", "Recovered", _BANK, {"path": str(bank)}, ())
    files, faults = operator_files.read(bank.parent, (bank.suffix,))
    file = next((one for one in files if one.path == bank), None)
    rule = "is neither the folder of a bank nor a provider's file"
    if file is None:
        reason = next((one.reason for one in faults if one.source == str(bank)), "cannot be read")
        raise InvalidInputError.of("bank", str(bank), f"{rule}: {reason}")
    try:
        values = operator_files.parse_yaml(file)
    except ConfigurationError as error:
        raise InvalidInputError.of("bank", str(bank), f"{rule}: {error.fields[0].rule}") from error
    options = values["bank"] if isinstance(values.get("bank"), dict) else values
    if not isinstance(options.get("type"), str):
        raise InvalidInputError.of("bank", str(bank), "must say `type:` of the bank, and its options")
    return Provider(
        id="",
        name="",
        description="Recovered",
        bank=options["type"],
        bank_options={name: value for name, value in options.items() if name != "type"},
        resource_types=(),
        adopted=values.get("adopted"),
    )


def _listed_ids(opened: Bank, place: Provider, bank: Path) -> list[str]:
    """The repositories of a bank that is no folder of this host. Every object of it is listed."""
    if place.adopted is not None:
        return [place.adopted]
    names = {one.key.partition("/")[0] for one in opened.list() if one.key.endswith("/config")}
    ids = sorted(name for name in names if _is_id(name))
    if not ids:
        raise InvalidInputError.of("bank", str(bank), "is a bank that holds no repository of Seawall")
    return ids


def _read_all(
    opened: Bank,
    there: Sequence[str],
    place: Path,
    keys: Sequence[KitKey],
    database: Database,
    report: _Report,
) -> list[FoundRepository]:
    for key in keys:
        if key.repository_id is not None and key.repository_id not in there:
            report.faults.append(f"repository {key.repository_id} of the recovery kit is not in {place}")
    found: list[FoundRepository] = []
    tried = wrong = 0
    for repository_id in there:
        named = [one for one in keys if one.repository_id == repository_id]
        candidates = named or [one for one in keys if one.repository_id is None]
        if not candidates:
            report.faults.append(f"repository {repository_id}: the recovery kit has no key for it")
            continue
        tried += 1
        try:
            found.append(_read_repository(opened, repository_id, candidates, database, report))
        except SeawallError as error:
            wrong += isinstance(error, WrongKeyError)
            report.faults.append(f"repository {repository_id}: {error}")
    if tried and wrong == tried:
        raise WrongKeyError(f"the key opens none of the {tried} repositories in {place}")
    if not found:
        raise InvalidInputError.of(
            "bank", str(place), "; ".join(report.faults) or "holds nothing that can be recovered"
        )
    return found


def _repository_ids(place: Path) -> list[str]:
    """The repositories of a bank in a folder: each lies in a folder that is named by its id."""
    try:
        names = sorted(path.name for path in place.iterdir() if (path / "config").is_file())
    except OSError as error:
        rule = f"must be the folder of a bank, and cannot be read: {error.strerror}"
        raise InvalidInputError.of("bank", str(place), rule) from error
    ids = [name for name in names if _is_id(name)]
    if not ids:
        rule = "must be the folder of a bank: one that holds repositories, each in a folder named by its id"
        if (place / "config").is_file():
            rule += (
                f"; this is a repository itself: name the folder above, {place.parent}, or for an adopted "
                "one a file with `adopted:` and `bank:`, as its provider had"
            )
        raise InvalidInputError.of("bank", str(place), rule)
    return ids


def _open(bank: Bank, keys: Sequence[KitKey], now: datetime) -> tuple[Repository, str]:
    """The repository, and the key that opens it; raises what the last key met when none does."""
    for number, candidate in enumerate(keys, start=1):
        try:
            return Repository.open(bank, password=candidate.key, now=now), candidate.key
        except WrongKeyError:
            if number == len(keys):
                raise
    raise WrongKeyError("there is no key to open the repository with")


def _read_repository(
    opened: Bank, repository_id: str, keys: Sequence[KitKey], database: Database, report: _Report
) -> FoundRepository:
    repository, key = _open(SubBank(opened, repository_id), keys, database.clock.now())
    found: dict[str, FoundCheckpoint] = {}
    plain = 0
    for snapshot in _snapshots(repository, repository_id, report):
        try:
            one = _read_checkpoint(repository, repository_id, snapshot)
        except SeawallError as error:
            report.faults.append(f"repository {repository_id}, snapshot {snapshot.id[:8]}: {error}")
            continue
        if one is None:
            plain += 1
        elif one.row.id in found:
            report.notes.append(
                f"repository {repository_id}, snapshot {snapshot.id[:8]}: a second one of checkpoint "
                f"{one.row.id}; the first is used"
            )
        else:
            found[one.row.id] = one
    if plain:
        report.notes.append(
            f"repository {repository_id}: {plain} snapshots were not made by Seawall and are left alone; "
            "restic restores them"
        )
    return FoundRepository(repository_id, repository.id, key, tuple(found.values()))


def _snapshots(repository: Repository, repository_id: str, report: _Report) -> list[Snapshot]:
    """Those that can be read, the oldest first."""
    found: list[Snapshot] = []
    for item in repository.bank.list("snapshots/"):
        snapshot_id = item.key.removeprefix("snapshots/")
        try:
            found.append(repository.snapshot(snapshot_id))
        except BankObjectMissingError:
            continue  # somebody else forgets it at this very moment
        except SeawallError as error:
            report.faults.append(f"repository {repository_id}: {error}")
    return sorted(found, key=lambda one: (one.time, one.id))


def _read_checkpoint(
    repository: Repository, repository_id: str, snapshot: Snapshot
) -> FoundCheckpoint | None:
    """What a snapshot says of itself; None when it was not made by Seawall."""
    try:
        node = repository.find(snapshot.tree, _MANIFEST)
    except NotFoundError:
        return None
    content = bytearray()
    for part in repository.read_file(node):
        content += part
        if len(content) > _MOST_BYTES:
            raise DamagedError(f"{_MANIFEST} is longer than {_MOST_BYTES} bytes")
    try:
        row, policy = flow_manifest.parse(content.decode(), snapshot_id=snapshot.id)
        for text in (row.id, row.project_id, row.provider_id, row.plan_id):
            UUID(text)
        for text_or_none in (row.run_id, row.scheduled_operation_id):
            UUID(text_or_none or row.id)
    except (AttributeError, TypeError, ValueError) as error:
        raise DamagedError(f"{_MANIFEST} does not describe a checkpoint: {error!r}") from error
    return FoundCheckpoint(_as_row(row, repository_id, snapshot), read_policy(policy))


def _as_row(one: Checkpoint, repository_id: str, snapshot: Snapshot) -> Checkpoint:
    """The row of a snapshot that is there: it was written before the row said so."""
    return replace(
        one,
        repository_id=repository_id,
        snapshot_id=snapshot.id,
        status=one.status if one.status in RESTORABLE else CheckpointStatus.AVAILABLE,
        ended_at=one.ended_at or snapshot.time,
    )


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


# --- the provider's file -----------------------------------------------------------------------


def _providers(found: Sequence[FoundRepository], place: Provider) -> list[Provider]:
    """The providers that the checkpoints name, all with the bank where it lies now; the most used first."""
    uses: dict[str, int] = {}
    names: dict[str, str] = {}
    for repository in found:
        for one in repository.checkpoints:
            uses[one.policy.provider_id] = uses.get(one.policy.provider_id, 0) + 1
            names[one.policy.provider_id] = one.policy.provider_name
    return [
        replace(place, id=provider_id, name=names[provider_id])
        for provider_id in sorted(uses, key=lambda one: (-uses[one], one))
    ]


def _write_provider(folder: DataFolder, name: str, provider: Provider) -> None:
    """Its file; one that is there must say the same (a recovery that was killed, and is done again)."""
    path = folder.providers / f"{name}.yaml"
    if path.exists():
        files, _ = operator_files.read(folder.providers, (path.suffix,))
        there = next((providers.parse(one) for one in files if one.path == path), None)
        if there is None or (there.id, there.bank_options) != (provider.id, provider.bank_options):
            raise ConfigurationError.of(
                "providers.d",
                str(path),
                f"is there already and is not the provider {provider.id}; move it away",
            )
        return
    providers.write(folder.providers, name, provider)
