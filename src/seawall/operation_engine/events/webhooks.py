# SPDX-License-Identifier: Apache-2.0
"""``Webhooks``: a signed request fires a trigger, once.

Whoever asks has no token, so a refusal says nothing: not whether there is such a trigger, nor what was wrong.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from seawall.core.errors import SeawallError, UnauthenticatedError
from seawall.db import events
from seawall.db.events import EventTrigger, Fired, Firing
from seawall.operation_engine.events import signatures, stored
from seawall.operation_engine.schedules.event_triggers import Sealing, purpose
from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from seawall.db.session import Database, Tx

log = get_logger(__name__)

# Compared with where there is no trigger, so that a refusal takes as long.
_NOBODYS = signatures.new_secret()


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a webhook request says, as it came."""

    project_id: str
    trigger_id: str
    signature: str
    timestamp: str
    """Seconds since 1970."""
    key: str
    """Its ``Idempotency-Key``; empty when it has none."""
    body: bytes


class Webhooks:
    """The webhook triggers of one installation; thread-safe, keeps nothing in memory."""

    def __init__(self, database: Database, *, sealing: Sealing, wakeup: Wakeup, replay_s: float) -> None:
        self._database = database
        self._sealing = sealing
        self._wakeup = wakeup
        self._replay_s = replay_s

    def fire(self, request: SignedRequest) -> Fired:
        """Fire; durable on return. ``UnauthenticatedError``, without a reason, for whatever is not signed as
        it must be; the log has the reason."""
        trigger = self._trigger(request)
        secret = self._secret(trigger)
        is_signed = signatures.is_signed(
            secret,
            request.signature,
            timestamp=request.timestamp,
            key=request.key,
            body=request.body,
            now_s=self._database.clock.now().timestamp(),
            replay_s=self._replay_s,
        )
        if trigger is None or not is_signed:
            log.warning("a webhook request was refused", trigger_id=request.trigger_id[:64])
            raise _refused()
        event_id = signatures.event_id(timestamp=request.timestamp, key=request.key, body=request.body)
        fire = functools.partial(self._fire, trigger=trigger, event_id=event_id)
        fired = self._database.write("events.webhook", fire)
        if fired is None:
            raise _refused()
        return fired

    def _fire(self, tx: Tx, *, trigger: EventTrigger, event_id: str) -> Fired | None:
        """None when the trigger no longer holds: it is quarantined then."""
        sound = stored.sound(tx, {trigger.row: trigger.properties})
        firings = [Firing(row, event_id, events.WEBHOOK, one.window_s) for row, one in sound.items()]
        if not firings:
            return None
        fired = events.fire(tx, firings)
        if fired.runs:
            tx.after_commit(self._wakeup.notify)
        return fired

    def _trigger(self, request: SignedRequest) -> EventTrigger | None:
        try:
            trigger_id, project_id = str(UUID(request.trigger_id)), str(UUID(request.project_id))
        except ValueError:
            return None
        found = self._database.read(lambda connection: events.find(connection, trigger_id))
        if found is None or found.source != events.WEBHOOK or found.project_id != project_id:
            return None
        return found

    def _secret(self, trigger: EventTrigger | None) -> str:
        if trigger is None or trigger.sealed_secret is None:
            return _NOBODYS
        try:
            return self._sealing.open(trigger.sealed_secret, purpose=purpose(trigger.id))
        except SeawallError:
            log.exception("the secret of a webhook cannot be opened", trigger_id=trigger.id)
            return _NOBODYS


def _refused() -> UnauthenticatedError:
    return UnauthenticatedError("this request is not signed as it must be", hint="see docs/events.md")
