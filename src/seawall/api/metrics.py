# SPDX-License-Identifier: Apache-2.0
"""/metrics in the words of Prometheus, made anew from rows and from the monitor at each question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from seawall.api.monitor import CONNECTED, NOT_CONFIGURED, BrokerStatus
from seawall.core.records import Service
from seawall.core.states import SERVICE_DOWN_AFTER


class FiguresView(Protocol):
    """How an installation stands at one instant."""

    @property
    def live_runs(self) -> Mapping[str, int]: ...
    @property
    def ended_runs(self) -> Mapping[str, int]: ...
    @property
    def oldest_waiting_at(self) -> datetime | None: ...
    @property
    def next_due_at(self) -> datetime | None: ...
    @property
    def last_success_at(self) -> Mapping[tuple[str, str], datetime]: ...
    @property
    def outbox(self) -> int: ...


def exposition(
    figures: FiguresView, services: Sequence[Service], broker: BrokerStatus, now: datetime
) -> bytes:
    """The page."""
    registry = CollectorRegistry()
    registry.register(
        _Collector([*_of_rows(figures, now), *_of_services(services, now), *_of_broker(broker)])
    )
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_rows(figures: FiguresView, now: datetime) -> Iterator[Metric]:
    live = GaugeMetricFamily("seawall_runs", "Runs that have not ended, by state.", labels=["state"])
    for state in ("queued", "in_progress", "cancelling"):
        live.add_metric([state], figures.live_runs.get(state, 0))
    yield live
    ended = GaugeMetricFamily(
        "seawall_runs_ended_last_day", "Runs that ended within 24 hours, by state.", labels=["state"]
    )
    for state, count in sorted(figures.ended_runs.items()):
        ended.add_metric([state], count)
    yield ended
    waited = figures.oldest_waiting_at
    yield GaugeMetricFamily(
        "seawall_oldest_waiting_run_seconds",
        "How late the run is that waits longest for its first start; 0 when none waits.",
        value=0 if waited is None else max(0.0, (now - waited).total_seconds()),
    )
    late = figures.next_due_at
    yield GaugeMetricFamily(
        "seawall_claim_late_seconds",
        "How long the oldest due trigger has waited for an engine; 0 when none is due.",
        value=0 if late is None else max(0.0, (now - late).total_seconds()),
    )
    if late is not None:
        yield GaugeMetricFamily(
            "seawall_next_due_timestamp_seconds", "When the next trigger is due.", value=late.timestamp()
        )
    success = GaugeMetricFamily(
        "seawall_plan_last_success_timestamp_seconds",
        "When the newest restorable checkpoint of a plan was done.",
        labels=["project", "plan"],
    )
    for (project, plan), at in figures.last_success_at.items():
        success.add_metric([project, plan], at.timestamp())
    yield success
    yield GaugeMetricFamily(
        "seawall_outbox_events", "Events that the broker has not been told yet.", value=figures.outbox
    )


def _of_services(services: Sequence[Service], now: datetime) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "seawall_service_up", "Whether a service gave a sign of life lately.", labels=["host", "service"]
    )
    for one in services:
        is_up = one.stopped_at is None and now - one.heartbeat_at < SERVICE_DOWN_AFTER
        up.add_metric([one.host, one.binary], int(is_up))
    yield up


def _of_broker(broker: BrokerStatus) -> Iterator[Metric]:
    if broker.state == NOT_CONFIGURED:
        return
    yield GaugeMetricFamily(
        "seawall_broker_up", "Whether the broker answers.", value=int(broker.state == CONNECTED)
    )
    yield GaugeMetricFamily(
        "seawall_broker_blocked", "Whether the broker takes no messages now.", value=int(broker.is_blocked)
    )
    if broker.alarms is not None:
        yield GaugeMetricFamily(
            "seawall_broker_alarms", "How many alarms its nodes raise.", value=len(broker.alarms)
        )
    messages = GaugeMetricFamily("seawall_queue_messages", "Messages that are ready.", labels=["queue"])
    consumers = GaugeMetricFamily("seawall_queue_consumers", "Consumers of a queue.", labels=["queue"])
    for one in broker.queues:
        if one.messages is not None and one.consumers is not None:
            messages.add_metric([one.name], one.messages)
            consumers.add_metric([one.name], one.consumers)
    yield messages
    yield consumers
    events = CounterMetricFamily(
        "seawall_events",
        "Messages since the start of this process, by what became of them.",
        labels=["result"],
    )
    events.add_metric(["received"], broker.received)
    events.add_metric(["fired"], broker.fired)
    events.add_metric(["rejected"], broker.rejected)
    yield events
