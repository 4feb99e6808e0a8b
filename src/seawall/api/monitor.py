# SPDX-License-Identifier: Apache-2.0
"""The RabbitMQ monitor (M2): is the broker there, how deep are the queues, who consumes, and which events
arrive. One thread and two connections, for a broker that is short of memory or disk tells only those that
publish, and then reads nothing more from them; several API processes may run.

A message is acknowledged only once what it fires is durable. If the process dies, or the broker is lost,
before that, it comes again, here or elsewhere, and fires nothing twice.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import structlog

from seawall.core.errors import BrokerUnavailableError, SeawallError
from seawall.sdk.clock import Clock

log = structlog.get_logger("seawall.api")

NOT_CONFIGURED, CONNECTING, CONNECTED, UNAVAILABLE = (
    "not configured",
    "connecting",
    "connected",
    "unavailable",
)
UNKNOWN = "unknown"

_LOOK_S = 5.0
_RECEIVE_S = 0.5
_FIRST_BACK_OFF_S = 0.5
_LONGEST_BACK_OFF_S = 30.0


class DepthView(Protocol):
    """How a queue stands."""

    @property
    def messages(self) -> int: ...
    @property
    def consumers(self) -> int: ...


class LinkPort(Protocol):
    """One connection; whatever breaks it is a ``BrokerUnavailableError``."""

    def depth(self, queue: str) -> DepthView | None: ...
    def consume(self) -> None: ...
    def receive(self, timeout_s: float) -> Sequence[Any]: ...
    def accept(self, deliveries: Sequence[Any]) -> None: ...
    def reject(self, deliveries: Sequence[Any]) -> None: ...
    def is_taking(self) -> bool:
        """Whether it takes messages now; asked by publishing, so on a link that does nothing else."""
        ...

    def close(self) -> None: ...


class ReceivedView(Protocol):
    """What became of messages; all of it is durable."""

    @property
    def accepted(self) -> Sequence[Any]: ...
    @property
    def rejected(self) -> Sequence[Any]: ...
    @property
    def fired(self) -> int: ...


class InsightView(Protocol):
    """What the broker's management plugin tells."""

    @property
    def alarms(self) -> Sequence[str] | None:
        """What its nodes are short of; None when it does not say."""
        ...

    @property
    def consumers(self) -> Mapping[str, Sequence[str]]:
        """Who takes the messages of a queue; nothing for one that it does not know."""
        ...

    @property
    def reason(self) -> str:
        """Why something of it is unknown."""
        ...


class BrokerPort(Protocol):
    """The broker, and what its messages do; bound in wiring."""

    @property
    def address(self) -> str: ...
    @property
    def queues(self) -> Sequence[str]: ...
    def open(self) -> LinkPort: ...
    def receive(self, deliveries: Sequence[Any]) -> ReceivedView: ...
    def insight(self) -> InsightView:
        """Asked anew; what cannot be told is unknown, never an error."""
        ...


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """How a queue stands; without numbers when it is not there or was not looked at."""

    name: str
    messages: int | None = None
    consumers: int | None = None
    consumed_by: tuple[str, ...] | None = None
    """``user@host:port`` of each consumer; None is unknown."""

    def as_json(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "consumers": self.consumers,
            "consumed_by": UNKNOWN if self.consumed_by is None else list(self.consumed_by),
        }


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """What is known of the broker now."""

    state: str
    """not configured | connecting | connected | unavailable"""
    address: str | None = None
    since: datetime | None = None
    """Since when it is in this state."""
    reason: str | None = None
    is_blocked: bool = False
    """The broker takes no messages: memory or disk are short."""
    queues: tuple[QueueStatus, ...] = ()
    alarms: tuple[str, ...] | None = None
    """None is unknown."""
    unknown_reason: str = ""
    """Why alarms or consumers are unknown; empty when they are known, or were not asked for yet."""
    failures: int = 0
    """How often it could not be reached, or was lost, in a row."""
    received: int = 0
    """Messages since the start of this process, those that were no events included."""
    fired: int = 0
    rejected: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the health page."""
        if self.state == NOT_CONFIGURED:
            return {"state": self.state}
        return {
            "state": self.state,
            "address": self.address,
            "since": None if self.since is None else self.since.isoformat(),
            "reason": self.reason,
            "blocked": self.is_blocked,
            "queues": {one.name: one.as_json() for one in self.queues},
            "alarms": UNKNOWN if self.alarms is None else list(self.alarms),
            "unknown_reason": self.unknown_reason or None,
            "events": {"received": self.received, "fired": self.fired, "rejected": self.rejected},
        }


class Monitor:
    """Watches one broker, or none. ``start`` once; ``stop`` may be repeated."""

    def __init__(self, broker: BrokerPort | None, *, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = BrokerStatus(NOT_CONFIGURED)
        if broker is not None:
            self._status = BrokerStatus(CONNECTING, address=broker.address, since=clock.now())

    @property
    def status(self) -> BrokerStatus:
        return self._status

    def start(self) -> None:
        """Begin; a broker that is not there is no reason not to start."""
        if self._broker is None:
            return
        self._thread = threading.Thread(
            target=self._run, args=(self._broker,), name="broker-monitor", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """What has come and is not durable yet comes again elsewhere."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    # --- the thread --------------------------------------------------------------------------

    def _run(self, broker: BrokerPort) -> None:
        while not self._stopping.is_set():
            try:
                self._serve(broker)
            except SeawallError as error:
                self._wait(error)
            except Exception as error:  # the thread must live as long as its service; logged and repeated
                log.exception("the broker monitor failed and is repeated")
                self._wait(BrokerUnavailableError(f"the monitor failed: {type(error).__name__}"))

    def _serve(self, broker: BrokerPort) -> None:
        """Until a connection breaks or we stop."""
        with closing(broker.open()) as link, closing(broker.open()) as probe:
            link.consume()
            self._connected()
            look_at = self._clock.monotonic()
            while not self._stopping.is_set():
                # First: what cannot be read must be rejected before anything else reads from this link.
                self._take(broker, link)
                if self._clock.monotonic() >= look_at:
                    self._look(broker, link, probe)
                    look_at = self._clock.monotonic() + _LOOK_S

    def _take(self, broker: BrokerPort, link: LinkPort) -> None:
        deliveries = link.receive(_RECEIVE_S)
        if not deliveries:
            return
        received = broker.receive(deliveries)
        # Durable from here on.
        if received.accepted:
            link.accept(received.accepted)
        if received.rejected:
            link.reject(received.rejected)
        was = self._status
        self._status = replace(
            was,
            received=was.received + len(deliveries),
            fired=was.fired + received.fired,
            rejected=was.rejected + len(received.rejected),
        )

    def _look(self, broker: BrokerPort, link: LinkPort, probe: LinkPort) -> None:
        insight = broker.insight()
        queues = []
        for name in broker.queues:
            found = link.depth(name)
            who = insight.consumers.get(name)
            queues.append(
                QueueStatus(
                    name,
                    None if found is None else found.messages,
                    None if found is None else found.consumers,
                    None if who is None else tuple(who),
                )
            )
        was = self._status
        now = replace(
            was,
            queues=tuple(queues),
            alarms=None if insight.alarms is None else tuple(insight.alarms),
            unknown_reason=insight.reason,
            is_blocked=not probe.is_taking(),
        )
        self._warn(was, now)
        self._status = now

    def _warn(self, was: BrokerStatus, now: BrokerStatus) -> None:
        """Once for each change."""
        if now.is_blocked and not was.is_blocked:
            log.warning("the broker takes no messages: memory or disk are short", broker=now.address)
        elif was.is_blocked and not now.is_blocked:
            log.info("the broker takes messages again", broker=now.address)
        if now.alarms and now.alarms != was.alarms:
            log.warning("the broker raises alarms", alarms=list(now.alarms))
        elif was.alarms and now.alarms == ():
            log.info("the broker's alarms are over", broker=now.address)

    def _connected(self) -> None:
        was = self._status
        log.info("the broker answers", broker=was.address, after_failures=was.failures)
        self._status = replace(was, state=CONNECTED, since=self._clock.now(), reason=None, failures=0)

    def _wait(self, error: SeawallError) -> None:
        was = self._status
        failures = was.failures + 1
        if was.state != UNAVAILABLE:
            log.warning("the broker is lost; it is tried again until it is back", reason=str(error))
        self._status = replace(
            was,
            state=UNAVAILABLE,
            since=was.since if was.state == UNAVAILABLE else self._clock.now(),
            reason=str(error),
            failures=failures,
            is_blocked=False,
            # What was known of it is known no more.
            queues=tuple(QueueStatus(one.name) for one in was.queues),
            alarms=None,
            unknown_reason="",
        )
        longest = min(_FIRST_BACK_OFF_S * 2 ** min(failures - 1, 10), _LONGEST_BACK_OFF_S)
        # Many processes lose one broker at the same time; they must not all come back at once.
        self._clock.wait(self._stopping, random.uniform(longest / 2, longest))
