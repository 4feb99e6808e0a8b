# SPDX-License-Identifier: Apache-2.0
"""``Inbox``: messages of a broker become runs, each event once, whichever process they come to (I1, I2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from seawall.core.errors import InvalidInputError, SeawallError
from seawall.core.records import Json
from seawall.db import audit, events
from seawall.db.events import Fired, Firing
from seawall.operation_engine.events import cloud_events, matching, stored
from seawall.operation_engine.events.cloud_events import CloudEvent
from seawall.operation_engine.outcomes import safe_text
from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from seawall.db.session import Database, Tx

log = get_logger(__name__)


class Incoming(Protocol):
    """A message that came."""

    @property
    def routing_key(self) -> str: ...
    @property
    def body(self) -> bytes: ...


@dataclass(slots=True)
class Received:
    """What became of some messages. All of it is durable: they may be acknowledged and rejected."""

    accepted: list[Incoming] = field(default_factory=list)
    rejected: list[Incoming] = field(default_factory=list)
    """No events; the audit log has why."""
    fired: int = 0
    """Triggers that were fired by them, each event counted once."""
    runs: int = 0


@dataclass(slots=True)
class _Read:
    message: Incoming
    event: CloudEvent | None
    fault: str = ""


class Inbox:
    """Takes messages for the ``amqp`` triggers of one installation; thread-safe, keeps nothing in memory."""

    def __init__(self, database: Database, *, wakeup: Wakeup) -> None:
        self._database = database
        self._wakeup = wakeup

    def receive(self, messages: Sequence[Incoming]) -> Received:
        """One transaction for all of them. An error (the database is away) means that nothing happened, and
        none may be acknowledged: they come again."""
        read = [_read(one) for one in messages]
        try:
            return self._write(read)
        except SeawallError:
            raise
        except (
            Exception
        ):  # one message that breaks its reader must not keep the others back; logged, tried alone
            log.exception("a batch of events failed; each is tried alone", messages=len(read))
        received = Received()
        for one in read:
            alone = self._alone(one)
            received.accepted += alone.accepted
            received.rejected += alone.rejected
            received.fired += alone.fired
            received.runs += alone.runs
        return received

    def _alone(self, one: _Read) -> Received:
        """One that breaks the code that reads it must not come again for ever."""
        try:
            return self._write([one])
        except SeawallError:
            raise
        except Exception as error:  # noqa: BLE001 - recorded, and the message is kept among the dead
            return self._write([_Read(one.message, None, safe_text(error))])

    def _write(self, read: Sequence[_Read]) -> Received:
        def call(tx: Tx) -> Received:
            fired = self._fire(tx, read)
            for one in read:
                if one.event is None:
                    details = {"reason": one.fault, "routing_key": one.message.routing_key[:255]}
                    audit.record(tx, None, "reject", "event", "", details)
            received = Received(fired=fired.fresh, runs=fired.runs)
            for one in read:
                (received.rejected if one.event is None else received.accepted).append(one.message)
            return received

        received = self._database.write("events.messages", call)
        for one in read:
            if one.event is None:
                log.warning("a message is no event", routing_key=one.message.routing_key, reason=one.fault)
        return received

    def _fire(self, tx: Tx, read: Sequence[_Read]) -> Fired:
        came = [(one.message.routing_key, one.event) for one in read if one.event and not one.event.is_own]
        if not came:
            return Fired(0, 0)
        listening = events.listening(tx.connection, events.AMQP)
        sound = stored.sound(tx, {one.row: one.properties for one in listening})
        firings = [
            Firing(row, event.event_id, events.AMQP, wanted.window_s)
            for routing_key, event in came
            for row, wanted in sound.items()
            if _is_meant(wanted.normalised, routing_key, event)
        ]
        fired = events.fire(tx, firings)
        if fired.runs:
            tx.after_commit(self._wakeup.notify)
        return fired


def _read(message: Incoming) -> _Read:
    try:
        return _Read(message, cloud_events.parse(message.body))
    except InvalidInputError as error:
        return _Read(message, None, str(error))


def _is_meant(wanted: Json, routing_key: str, event: CloudEvent) -> bool:
    return matching.has_routing_key(wanted["routing_key"], routing_key) and matching.has_values(
        wanted["filter"], event.data
    )
