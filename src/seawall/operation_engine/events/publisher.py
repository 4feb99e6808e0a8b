# SPDX-License-Identifier: Apache-2.0
"""``Publisher``: tells a broker what the outbox holds, and removes what it has confirmed.

At least once: if the process dies between the confirmation and the commit that removes the rows, they are
told again, with the same ids. With several engines one at a time does it, by a lease.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from seawall.core.errors import BrokerUnavailableError
from seawall.db import leases, outbox
from seawall.runtime.broker import Broker, Link, Message
from seawall.runtime.logging import get_logger
from seawall.sdk.clock import Clock

if TYPE_CHECKING:
    from seawall.db.outbox import Told
    from seawall.db.session import Database, Tx

log = get_logger(__name__)

BATCH = 500
_LEASE = "outbox"
_LEASE_S = 60.0
_FIRST_BACK_OFF_S = 1.0
_LONGEST_BACK_OFF_S = 60.0
# A broker that takes no messages says when it takes them again; to hear it costs nothing.
_BLOCKED_S = 5.0


class Publisher:
    """Its ``run`` is what a ``TriggerLoop`` calls; ``close`` hangs up."""

    def __init__(
        self, database: Database, broker: Broker, *, clock: Clock, poll_s: float, holder: str = "publisher"
    ) -> None:
        self._database = database
        self._broker = broker
        self._clock = clock
        self._poll_s = poll_s
        self._link: Link | None = None
        self._failures = 0
        self._not_before: datetime | None = None
        self.holder = holder
        """Whose lease it is: one for each process."""

    def run(self, _expected_at: datetime) -> datetime:
        """Tell all that waits; when to look again."""
        now = self._clock.now()
        if self._not_before is not None and now < self._not_before:
            return self._not_before
        try:
            if self._link is not None:
                self._link.look()
            while self._tell():
                pass
        except BrokerUnavailableError as error:
            return self._back_off(error)
        if self._failures:
            log.info("the broker is told again what happens", broker=self._broker.address)
        self._failures, self._not_before = 0, None
        return self._clock.now() + timedelta(seconds=self._poll_s)

    def close(self) -> None:
        """Hang up. It may be run again."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _tell(self) -> bool:
        """Whether there may be more."""
        if not self._database.read(lambda connection: outbox.waiting(connection, limit=1)):
            return False
        if not self._database.write("outbox.lease", self._hold):
            return False
        told = self._database.read(lambda connection: outbox.waiting(connection, limit=BATCH))
        if self._link is None:
            self._link = self._broker.open()
        self._link.publish([_message(one) for one in told])
        self._database.write("outbox.confirmed", lambda tx: self._confirmed(tx, told))
        return len(told) == BATCH

    def _hold(self, tx: Tx) -> bool:
        return leases.acquire(tx, _LEASE, self.holder, tx.now + timedelta(seconds=_LEASE_S))

    def _confirmed(self, tx: Tx, told: Sequence[Told]) -> None:
        outbox.remove(tx, [one.row for one in told])

    def _back_off(self, error: BrokerUnavailableError) -> datetime:
        self._failures += 1
        longest = min(_FIRST_BACK_OFF_S * 2 ** min(self._failures - 1, 10), _LONGEST_BACK_OFF_S)
        if self._link is not None and self._link.is_blocked:
            # Kept: each new connection would be one more that the broker holds until it takes messages again.
            longest = min(longest, _BLOCKED_S)
        else:
            self.close()
        # Many engines lose one broker at the same time; they must not all come back at once.
        wait_s = random.uniform(longest / 2, longest)
        if self._failures == 1:
            log.warning("the broker cannot be told what happens; it waits in the outbox", reason=str(error))
        self._not_before = self._clock.now() + timedelta(seconds=wait_s)
        return self._not_before


def _message(told: Told) -> Message:
    state = told.event["data"].get("state")
    key = f"{told.type}.{state}" if state else told.type
    return Message(told.id, key, orjson.dumps(told.event))
