# SPDX-License-Identifier: Apache-2.0
"""How many due times a second one core finds: crontabs that nobody has asked about, the same question again,
and a five-year-old rule of every fifteen minutes."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product

from cronsim import CronSim
from dateutil.rrule import rrulestr

from bench.figure import show
from seawall.core.schedule import load_schedule, next_after

NOW = datetime(2026, 11, 24, 12, 34, 56, tzinfo=UTC)
ROUNDS = 5
ZONES = ("Europe/Paris", "America/New_York", "Asia/Tokyo", "UTC")


def main() -> int:
    # Zones are read once in the life of a process: their changes of these years are known before.
    for zone in ZONES:
        next_after(load_schedule(_crontab("17 3 * * *", zone)), NOW)
    fields = [
        f"{minute} {hour} * * {day}" for minute, hour, day in product(range(60), range(24), ("*", "1-5"))
    ]
    chunks = [fields[number::ROUNDS] for number in range(ROUNDS)]
    cold = statistics.median(_rate(len(chunk), lambda chunk=chunk: _cold(chunk)) for chunk in chunks)  # type: ignore[misc]  # bound now
    peer = statistics.median(_rate(len(chunk), lambda chunk=chunk: _cronsim(chunk)) for chunk in chunks)  # type: ignore[misc]  # bound now
    show(
        "engine.next_cron_per_s.cold",
        cold,
        "/s",
        3000,
        at_least=True,
        peer="cronsim, without zones",
        peer_value=peer,
        ratio=cold / peer,
    )
    cached = statistics.median(_rate(200_000, _cached) for _ in range(ROUNDS))
    show("engine.next_cron_per_s.cached", cached, "/s", 200_000, at_least=True)
    rule = statistics.median(_rate(2000, lambda first=first: _rule(first * 2000)) for first in range(ROUNDS))  # type: ignore[misc]  # bound now
    walked = _rate(1, _dateutil)
    show(
        "engine.next_rrule_5y_minutely_per_s",
        rule,
        "/s",
        1000,
        at_least=True,
        peer="dateutil, walking from DTSTART",
        peer_value=walked,
        ratio=rule / walked,
    )
    return int(cold < 3000 or cached < 200_000 or rule < 1000)


def _rate(count: int, call: Callable[[], None]) -> float:
    """In seconds of this process's processor time: nothing here waits, and others may be busy."""
    gc.collect()
    begin = time.process_time()
    call()
    return count / (time.process_time() - begin)


def _crontab(pattern: str, zone: str) -> dict[str, str]:
    return {"format": "crontab", "pattern": pattern, "timezone": zone, "start_time": "2026-01-01 00:00:00"}


def _cold(patterns: list[str]) -> None:
    """Reading what is stored and finding its next time; no pattern comes twice."""
    for number, pattern in enumerate(patterns):
        next_after(load_schedule(_crontab(pattern, ZONES[number % len(ZONES)])), NOW)


def _cronsim(patterns: list[str]) -> None:
    naive = NOW.replace(tzinfo=None)
    for pattern in patterns:
        next(CronSim(pattern, naive))


def _cached() -> None:
    """As when many triggers share a pattern and are due in the same minute."""
    one = load_schedule(_crontab("17 3 * * *", "Europe/Paris"))
    for _ in range(200_000):
        next_after(one, NOW)


def _rule(first: int) -> None:
    properties = {
        "format": "calendar",
        "pattern": "FREQ=MINUTELY;INTERVAL=15",
        "timezone": "Europe/Paris",
        "start_time": "2021-11-24 12:00:00",
    }
    one = load_schedule(properties)
    for number in range(first, first + 2000):
        next_after(one, NOW + timedelta(seconds=97 * number))


def _dateutil() -> None:
    start = datetime(2021, 11, 24, 12)  # noqa: DTZ001 - dateutil walks naive times
    rrulestr("FREQ=MINUTELY;INTERVAL=15", dtstart=start).after(NOW.replace(tzinfo=None))


if __name__ == "__main__":
    sys.exit(main())
