# SPDX-License-Identifier: Apache-2.0
"""A year of a thousand mixed schedules through the real engine, on a fake clock and a database in memory.

    make simulate            (or: python -m tools.simulate [SEED])

Every due time of the year is worked out by brute force from what the user asked for (``tools.due_times``,
which shares nothing with the engine) and compared with the rows: single runs by their occurrence, stretches
by the due times between their first and their last. In the year the engine is away now and then, operations
are switched off and on, triggers are paused, and old rows are deleted by the clean-up. One line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from seawall.core.records import ScheduledOperation
from seawall.core.schedule import fixed_offset
from seawall.db import cleanup_rows
from seawall.db.session import Tx
from seawall.db.tables import runs
from seawall.runtime.clock import SystemClock
from tests.engine.ground import START, Ground
from tools.due_times import Wanted, due_times, wanted_schedules

SCHEDULES = 1000
YEAR = timedelta(days=365)
# How far the clock moves between two looks of the engine; the long ones are times when it was away.
_STEPS_MIN = (20, 45, 60, 60, 90, 120, 240)
_AWAY_MIN = (6 * 60, 30 * 60, 5 * 1440)
_KEPT = timedelta(days=3)


@dataclass(slots=True)
class Simulated:
    """One schedule, its operation, and what its rows must say."""

    wanted: Wanted
    operation: ScheduledOperation
    times: list[datetime]
    """Expected times (with the spread) of the year, by brute force."""
    offset: timedelta
    on: list[list[datetime]] = field(default_factory=list)
    """[from, until) stretches in which it was registered."""
    found: Counter[datetime] = field(default_factory=Counter)
    is_paused: bool = False

    def is_its_own(self, at: datetime) -> bool:
        """Whether it was registered then (I1)."""
        return any(since < at <= end for since, end in self.on)

    def times_between(self, first: datetime, last: datetime) -> list[datetime]:
        """Its due times, both inclusive."""
        found = self.times[bisect_left(self.times, first) : bisect_right(self.times, last)]
        return [at for at in found if self.is_its_own(at)]


class Year:
    """The installation and its thousand schedules."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.ground = Ground(folder, where=None)
        self.end = START + YEAR
        self.rows = 0
        self.simulated = [self._made(one) for one in wanted_schedules(self.random, SCHEDULES, START)]
        self._by_id = {one.operation.id: one for one in self.simulated}

    def _made(self, wanted: Wanted) -> Simulated:
        trigger = self.ground.trigger(**wanted.properties)
        operation = self.ground.operation(trigger, overlap=wanted.overlap)
        offset = fixed_offset(trigger.id, wanted.spread_s)
        times = [at + offset for at in due_times(wanted, START, self.end)]
        return Simulated(wanted, operation, times, offset, [[START, datetime.max.replace(tzinfo=UTC)]])

    def pass_by(self) -> None:
        clock = self.ground.clock
        while clock.now() < self.end:
            away = self.random.random() < 0.004
            minutes = self.random.choice(_AWAY_MIN if away else _STEPS_MIN)
            step = min(timedelta(minutes=minutes), self.end - clock.now())
            clock.advance(step.total_seconds())
            if self.random.random() < 0.05:
                self._change()
            while self.ground.claim().is_more:
                pass
            self.ground.database.write("simulate.end", _end_all)
            if self.random.random() < 0.04:
                self._clean_up()
        self._collect(self._rows())

    def _change(self) -> None:
        """Somebody switches an operation, or pauses or resumes a trigger."""
        one = self.random.choice(self.simulated)
        schedules, caller, now = self.ground.schedules, self.ground.caller, self.ground.clock.now()
        trigger_id = one.operation.trigger_id
        if self.random.random() < 0.5:
            is_on = one.on[-1][1] > now
            schedules.update_operation(caller, one.operation.id, {"enabled": not is_on})
            if is_on:
                one.on[-1][1] = now
            else:
                one.on.append([now, datetime.max.replace(tzinfo=UTC)])
        elif one.is_paused:
            schedules.resume_trigger(caller, trigger_id)
            one.is_paused = False
        else:
            until = now + timedelta(days=self.random.randint(1, 9))
            one.is_paused = self.random.random() < 0.5
            schedules.pause_trigger(
                caller, trigger_id, reason="simulated", until_at=None if one.is_paused else until
            )

    def _clean_up(self) -> None:
        """Old rows go; what they accounted for stays accounted for, and must not fire again."""
        before = self.ground.clock.now() - _KEPT
        old = self._rows(runs.c.ended_at < before)
        delete = cleanup_rows.delete_old_runs
        while self.ground.database.write(
            "simulate.clean_up", lambda tx: delete(tx, before=before, limit=5000)
        ):
            pass
        left = {row.row for row in self._rows(runs.c.ended_at < before)}
        self._collect([row for row in old if row.row not in left])

    def _rows(self, *conditions: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
        names = ("row", "scheduled_operation_id", "expected_at", "gap_first_at", "gap_last_at", "gap_count")
        query = sa.select(*(runs.c[name] for name in names)).where(*conditions)
        return list(self.ground.database.read(lambda connection: connection.execute(query).all()))

    def _collect(self, rows: list[sa.Row[Any]]) -> None:
        self.rows += len(rows)
        for row in rows:
            one = self._by_id[row.scheduled_operation_id]
            if row.gap_count is None:
                one.found[row.expected_at] += 1
                continue
            within = one.times_between(row.gap_first_at, row.gap_last_at)
            if len(within) != row.gap_count:
                # Counted as one that is none: the comparison fails and shows it.
                one.found[row.gap_first_at - timedelta(seconds=1)] += 1
            one.found.update(within)


def _end_all(tx: Tx) -> None:
    tx.connection.execute(
        runs.update().where(runs.c.state == "queued").values(state="success", ended_at=tx.now)
    )


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    clock = SystemClock()
    begun = clock.monotonic()
    with tempfile.TemporaryDirectory(prefix="seawall-simulate-") as folder:
        year = Year(Path(folder), seed)
        try:
            year.pass_by()
        finally:
            year.ground.close()
    faults: dict[str, list[str]] = defaultdict(list)
    due = lost = doubled = invented = 0
    for one in year.simulated:
        must = set(one.times_between(START, year.end))
        due += len(must)
        wrong = {
            "lost": must - one.found.keys(),
            "invented": one.found.keys() - must,
            "doubled": {at for at, count in one.found.items() if count > 1},
        }
        lost += len(wrong["lost"])
        invented += len(wrong["invented"])
        doubled += len(wrong["doubled"])
        for what, times in wrong.items():
            if times:
                faults[what].append(f"{one.wanted} at {[at.isoformat() for at in sorted(times)[:3]]}")
    for what, found in faults.items():
        for fault in found[:10]:
            print(f"{what}: {fault}", file=sys.stderr)
    is_good = lost == doubled == invented == 0
    line = {
        "name": "simulate", "schedules": SCHEDULES, "days": YEAR.days, "seed": seed, "due": due,
        "accounted": due - lost, "lost": lost, "doubled": doubled, "invented": invented, "rows": year.rows,
        "seconds": round(clock.monotonic() - begun, 1), "ok": is_good,
    }  # fmt: skip
    print(json.dumps(line), flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
