# SPDX-License-Identifier: Apache-2.0
"""The broker as the API's monitor sees it, and the figures for /metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seawall.db import figures, outbox
from seawall.db.session import Database
from seawall.operation_engine.events.inbox import Inbox, Received
from seawall.runtime.amqp_url import AmqpUrl
from seawall.runtime.broker import Broker, Link
from seawall.runtime.broker_management import Insight, Management
from seawall.runtime.config import Settings
from seawall.runtime.wakeup import Wakeup


def broker_of(settings: Settings) -> Broker | None:
    """The configured broker; None when there is none."""
    if settings.amqp_url is None:
        return None
    return Broker(AmqpUrl.parse(settings.amqp_url.get_secret_value()), exchange=settings.amqp_exchange)


def management_of(settings: Settings) -> Management | None:
    """The broker's management plugin; None when it, or the broker itself, is not configured."""
    if settings.amqp_url is None or settings.management_url is None:
        return None
    virtual_host = AmqpUrl.parse(settings.amqp_url.get_secret_value()).virtual_host
    return Management(settings.management_url.get_secret_value(), virtual_host=virtual_host)


def switch_outbox(database: Database, *, is_on: bool) -> None:
    """Let what happens be written down exactly when there is a broker to be told."""
    if database.read(outbox.is_on) != is_on:
        database.write("outbox.switch", lambda tx: outbox.switch(tx, is_on=is_on))


class EventBroker:
    """The broker, and what its messages do: the monitor's ``BrokerPort``."""

    def __init__(
        self, broker: Broker, management: Management | None, *, database: Database, wakeup: Wakeup
    ) -> None:
        self._broker = broker
        self._management = management
        self._inbox = Inbox(database, wakeup=wakeup)

    @property
    def address(self) -> str:
        return self._broker.address

    @property
    def queues(self) -> tuple[str, ...]:
        """Those that are watched: what fires triggers, and what was no event."""
        return self._broker.names.inbox, self._broker.names.dead

    def open(self) -> Link:
        return self._broker.open()

    def receive(self, deliveries: Sequence[Any]) -> Received:
        return self._inbox.receive(deliveries)

    def insight(self) -> Insight:
        return Insight() if self._management is None else self._management.insight(self.queues)


class FiguresOf:
    """The figures of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def figures(self) -> figures.Figures:
        now = self._database.clock.now()
        return self._database.read(lambda connection: figures.figures(connection, now))
