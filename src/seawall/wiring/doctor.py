# SPDX-License-Identifier: Apache-2.0
"""``seawall doctor``: everything that is wrong, or will be, with an installation.

It works beside a running service and without one, and changes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from seawall.core.errors import SeawallError
from seawall.core.listing import ListQuery
from seawall.core.states import SERVICE_DOWN_AFTER
from seawall.db import checkpoints, events, outbox, projects, services, triggers
from seawall.db import repositories as repository_rows
from seawall.db.session import Database
from seawall.operation_engine.schedules import event_triggers
from seawall.protection import repositories
from seawall.protection.allowlist import AllowList
from seawall.protection.providers import Providers
from seawall.runtime.broker import Depth
from seawall.runtime.broker_management import Insight
from seawall.runtime.config import Settings
from seawall.runtime.registry import Plugins
from seawall.runtime.secrets import InstallKey
from seawall.sdk.clock import Clock
from seawall.wiring import plugins
from seawall.wiring.broker import broker_of, management_of
from seawall.wiring.offline import opened_installation

OK, WARNING, ERROR = "ok", "warning", "error"

# Below this a backup may fail while it writes.
_LEAST_FREE_BYTES = 1 << 30
_LEAST_FREE_PERCENT = 5
_MOST_SHOWN = 100
_MUCH_UNTOLD = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: str
    """ok | warning | error"""
    what: str
    finding: str
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at everything; what cannot be looked at is a finding, too."""
    found: list[Finding] = []
    try:
        with opened_installation(settings, clock) as (database, install_key):
            examination = _Examination(settings, clock, database, install_key)
            for look in examination.looks():
                found += _looked(look)
    except SeawallError as error:
        found.append(Finding(ERROR, "installation", str(error), error.shown_hint))
    return found


def _looked(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    name = look.__name__.strip("_").replace("_", " ")
    try:
        return list(look()) or [Finding(OK, name, "nothing to say")]
    except SeawallError as error:
        return [Finding(ERROR, name, str(error), error.shown_hint)]
    except OSError as error:
        return [Finding(ERROR, name, f"cannot be looked at: {error.strerror}")]


class _Examination:
    def __init__(self, settings: Settings, clock: Clock, database: Database, install_key: InstallKey) -> None:
        self._settings = settings
        self._clock = clock
        self._database = database
        self._install_key = install_key
        self._providers = Providers(settings.folder.providers, plugins.load_banks())

    def looks(self) -> tuple[Callable[[], Iterator[Finding]], ...]:
        """What is looked at, in this order."""
        return (
            self._secrets,
            self._recovery_kit,
            self._plugins,
            self._allow_lists,
            self._banks,
            self._services,
            self._broker,
            self._schedules,
            self._checkpoints,
        )

    def _secrets(self) -> Iterator[Finding]:
        """Every sealed secret opens with the install key."""
        for one in self._database.read(repository_rows.listed):
            self._database.read(
                partial(repositories.password, install_key=self._install_key, repository_id=one.id)
            )
            self._database.read(
                partial(repositories.recovery_key, install_key=self._install_key, repository_id=one.id)
            )
        for trigger in self._database.read(lambda connection: events.listening(connection, events.WEBHOOK)):
            if trigger.sealed_secret is not None:
                self._install_key.open(trigger.sealed_secret, purpose=event_triggers.purpose(trigger.id))
        yield Finding(OK, "secrets", "the install key opens what is sealed")

    def _recovery_kit(self) -> Iterator[Finding]:
        path = self._settings.folder.recovery_kit
        if not path.exists():
            yield Finding(WARNING, "recovery kit", f"{path} is not there", "see: seawall recovery-kit show")
        if any(one.kit_acknowledged_at is None for one in self._database.read(repository_rows.listed)):
            yield Finding(
                WARNING,
                "recovery kit",
                "nobody has said that a copy lies elsewhere: losing this machine would lose the backups",
                "copy it away, then: seawall recovery-kit acknowledge",
            )

    def _plugins(self) -> Iterator[Finding]:
        kinds: tuple[tuple[str, Plugins[Any]], ...] = (
            ("operation", plugins.load_operations(self._settings)),
            ("executor", plugins.load_executors()),
            ("bank", plugins.load_banks()),
            ("protectable", plugins.load_protectables()),
            ("protection", plugins.load_protections()),
        )
        for kind, loaded in kinds:
            for fault in loaded.faults:
                yield Finding(ERROR, f"{kind} plugin", str(fault), "mend or remove it; it is not used")

    def _allow_lists(self) -> Iterator[Finding]:
        lists = AllowList(self._settings.folder.projects)
        for fault in lists.faults:
            yield Finding(ERROR, "allow-list", str(fault), "this file allows nothing until it is mended")
        for project_id, name in self._database.read(projects.listed).items():
            if not {*lists.roots(project_id), *lists.roots(name)}:
                yield Finding(OK, "allow-list", f"project {name} may touch no path of this host")

    def _banks(self) -> Iterator[Finding]:
        for fault in self._providers.faults:
            yield Finding(ERROR, "provider", str(fault), "it is not used until it is mended")
        for provider in self._providers.list():
            bank = self._providers.open_bank(provider)
            try:
                next(iter(bank.list("")), None)
                folder = bank.features.local_path
            finally:
                bank.close()
            if folder is None:
                yield Finding(OK, f"bank {provider.name}", "answers")
                continue
            usage = shutil.disk_usage(folder)
            free = f"{usage.free / 2**30:.1f} GiB free ({100 * usage.free // usage.total} %)"
            if not os.access(folder, os.W_OK):
                yield Finding(ERROR, f"bank {provider.name}", f"{folder} cannot be written")
            elif usage.free < _LEAST_FREE_BYTES or usage.free * 100 < usage.total * _LEAST_FREE_PERCENT:
                yield Finding(
                    WARNING, f"bank {provider.name}", f"nearly full: {free}", "free space, or keep less"
                )
            else:
                yield Finding(OK, f"bank {provider.name}", free)

    def _services(self) -> Iterator[Finding]:
        now = self._clock.now()
        there = self._database.read(services.listed)
        up = {
            one.binary
            for one in there
            if one.stopped_at is None and now - one.heartbeat_at < SERVICE_DOWN_AFTER
        }
        for binary in ("seawall-api", "seawall-operationengine", "seawall-protection"):
            if binary in up:
                yield Finding(OK, binary, "is up")
            else:
                yield Finding(ERROR, binary, "is up on no host", "start it: seawall serve")
        for one in there:
            if not one.is_enabled:
                yield Finding(WARNING, one.binary, f"is disabled on {one.host}: {one.disabled_reason}")

    def _broker(self) -> Iterator[Finding]:
        """Whether the broker answers, how its queues stand, and what it could not be told yet."""
        waiting = self._database.read(outbox.count)
        if waiting > _MUCH_UNTOLD:
            yield Finding(WARNING, "outbox", f"{waiting} events wait to be told", "is the broker there?")
        broker = broker_of(self._settings)
        if broker is None:
            yield Finding(OK, "broker", "not configured: no message fires a trigger")
            return
        try:
            link = broker.open()
        except SeawallError as error:
            yield Finding(ERROR, "broker", str(error), "what happens waits in the outbox until it is back")
            return
        management = management_of(self._settings)
        queues = broker.names.inbox, broker.names.dead
        insight = Insight() if management is None else management.insight(queues)
        with closing(link):
            for name in queues:
                who = insight.consumers.get(name, ())
                yield from _queue(link.depth(name), name, who, is_dead=name == broker.names.dead)
            if link.is_taking():
                yield Finding(OK, "broker", f"{broker.address} answers")
            else:
                yield Finding(
                    ERROR,
                    "broker",
                    f"{broker.address} takes no messages: memory or disk are short",
                    "what happens waits in the outbox until it takes them again",
                )
        for alarm in insight.alarms or ():
            yield Finding(
                ERROR, "broker", f"raises an alarm: {alarm}", "it takes no messages until it is over"
            )
        if insight.alarms is None:
            # Whoever has configured it wants to know; without it, it is no fault.
            state = OK if management is None else WARNING
            yield Finding(state, "broker alarms", f"unknown: {insight.reason}")
        elif not insight.alarms:
            yield Finding(OK, "broker alarms", "none")

    def _schedules(self) -> Iterator[Finding]:
        page = self._database.read(
            lambda c: triggers.page(c, ListQuery(limit=1000, all_projects=True), project_id=None)
        )
        broken = [one for one in page.items if one.quarantine_reason is not None]
        for one in broken[:_MOST_SHOWN]:
            yield Finding(ERROR, f"trigger {one.name}", f"does not fire: {one.quarantine_reason}")
        for one in page.items:
            if one.paused_at is not None:
                yield Finding(
                    WARNING, f"trigger {one.name}", f"is paused: {one.paused_reason or 'no reason'}"
                )

    def _checkpoints(self) -> Iterator[Finding]:
        for held in self._database.read(checkpoints.failing):
            yield Finding(
                ERROR,
                f"plan {held.plan_name}",
                f"its newest backup failed: {held.reason}",
                "nothing of it is deleted until one succeeds",
            )


def _queue(depth: Depth | None, name: str, who: Sequence[str], *, is_dead: bool) -> Iterator[Finding]:
    if depth is None:
        yield Finding(WARNING, f"queue {name}", "is not there", "the API makes it when it starts")
    elif is_dead and depth.messages:
        hint = "they are no CloudEvents; the audit log says what is wrong with each"
        yield Finding(WARNING, f"queue {name}", f"{depth.messages} messages were rejected", hint)
    elif not is_dead and not depth.consumers:
        yield Finding(WARNING, f"queue {name}", "nobody takes its messages", "start it: seawall serve")
    else:
        shown = f" ({', '.join(who)})" if who else ""
        yield Finding(OK, f"queue {name}", f"{depth.messages} messages, {depth.consumers} consumers{shown}")
