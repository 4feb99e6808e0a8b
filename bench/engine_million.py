# SPDX-License-Identifier: Apache-2.0
"""A million triggers, each with an operation and a schedule of its own: what they cost when few are due.

``engine.claim_1m_over_1k``: time to claim 1,000 due triggers scattered evenly among a million, over of 1,000
that are all there is; medians of several claims, taken in turns. ``.adjacent``: the same when the rows of the
1,000 lie side by side, as of triggers that were made at the same time.
``engine.start_1m_s``: from the start of a fresh ``seawall operationengine`` process to the claim of what is
due, imports and all; median.
``engine.start_1m_rss_mib``: the most resident memory of that process, until after it has looked at every
schedule again in the background.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
import yaml
from pydantic import SecretStr

from bench.engine_ground import (
    ROUNDS,
    TRIGGERS,
    claim_all,
    count_of,
    database_of,
    engine_of,
    fill_later,
    make_due,
    opened,
    peak_mib,
    wait_for,
)
from bench.figure import show, tell
from seawall.db.session import Database
from seawall.db.tables import runs, triggers
from seawall.runtime.clock import SystemClock
from seawall.runtime.config import Settings
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.wakeup import Wakeup
from seawall.wiring.install import open_installation
from tests.support.databases import place

CLAIMS = 7
SEAWALL = Path(sys.executable).with_name("seawall")
DUE = min(1000, TRIGGERS)
_QUARANTINED = sa.select(triggers.c.row).where(triggers.c.quarantine_reason.is_not(None))


def show_million(kinds: tuple[str, ...]) -> None:
    """The goals are SQLite's; what PostgreSQL does is told beside them."""
    for kind in kinds:
        end = "" if kind == "sqlite" else f".{kind}"
        with tempfile.TemporaryDirectory(prefix="seawall-bench-") as text, place(kind, Path(text)) as where:
            url = SecretStr(where.address) if isinstance(where, DatabaseUrl) else None
            settings = Settings(data_dir=Path(text), database_url=url)
            with installed(settings) as large:
                begun = time.monotonic()
                fill_later(large, TRIGGERS)
                tell(f"engine.fill_1m_s{end}", time.monotonic() - begun)
                scattered, adjacent = claims_ratios(kind, large)
                show(f"engine.claim_1m_over_1k{end}", scattered, "ratio", 2.0)
                show(f"engine.claim_1m_over_1k.adjacent{end}", adjacent, "ratio", 2.0)
                # One whose schedule does not hold any more, the last that is looked at.
                large.write("bench.break", lambda tx: tx.connection.execute(sa.text(_BREAK)))
                started = [Started(settings, large) for _ in range(ROUNDS)]
                show(f"engine.start_1m_s{end}", statistics.median(one.ready_s for one in started), "s", 3)
                peak, checked_s = peak_and_seconds_of_check(settings, large)
                show(f"engine.start_1m_rss_mib{end}", peak, "MiB", 200)
                tell(f"engine.start_1m_checked_s{end}", checked_s)


_BREAK = """
    UPDATE triggers SET properties = '{"format": "crontab", "pattern": "never"}', quarantine_reason = NULL
    WHERE row = (SELECT max(row) FROM triggers)"""


@contextmanager
def installed(settings: Settings) -> Iterator[Database]:
    """The database of an installation that is set up."""
    open_installation(settings, SystemClock()).database.close()
    with opened(settings.database) as database:
        yield database


def claims_ratios(kind: str, large: Database) -> tuple[float, float]:
    """(scattered, adjacent)."""
    with database_of(kind) as small:
        fill_later(small, DUE)
        taken: dict[str, list[float]] = {"alone": [], "scattered": [], "adjacent": []}
        # The first of each is not counted: it makes statements and fills caches.
        for number in range(CLAIMS + 1):
            sides = {
                "alone": (small, 1, 1),
                "scattered": (large, number + 1, TRIGGERS // DUE),
                "adjacent": (large, number * DUE + 1, 1),
            }
            for side, (database, first, every) in sides.items():
                due_at = _this_minute(database)
                make_due(database, due_at=due_at, first=first, every=every, count=DUE)
                seconds = _claim_s(database)
                if number:
                    taken[side].append(seconds)
        found = {side: statistics.median(seconds) for side, seconds in taken.items()}
        for side, seconds in found.items():
            tell(f"engine.claim_1000_ms.{side}.{kind}", seconds * 1000)
        return found["scattered"] / found["alone"], found["adjacent"] / found["alone"]


def _claim_s(database: Database) -> float:
    engine = engine_of(database, Wakeup())
    begun = time.monotonic()
    claim_all(database, engine)
    taken = time.monotonic() - begun
    assert count_of(database, sa.select(runs.c.row)) == DUE
    return taken


def _this_minute(database: Database) -> datetime:
    return database.clock.now().replace(second=0, microsecond=0)


# --- a fresh process -------------------------------------------------------------------------------


class Started:
    """One start of the service, with one trigger that is due; it is ended once that has become a run."""

    def __init__(self, settings: Settings, database: Database) -> None:
        with engine_process(settings, database) as (_, self.ready_s):
            pass


def peak_and_seconds_of_check(settings: Settings, database: Database) -> tuple[float, float]:
    """(MiB, seconds) until the process has looked at every schedule again."""
    with engine_process(settings, database) as (pid, _):
        begun = time.monotonic()
        wait_for("every schedule to be looked at", lambda: count_of(database, _QUARANTINED) == 1, every_s=0.5)
        return peak_mib(pid), time.monotonic() - begun


@contextmanager
def engine_process(settings: Settings, database: Database) -> Iterator[tuple[int, float]]:
    """(pid, seconds from its start to the claim of what was due) of a process that is ready to fire."""
    make_due(database, due_at=_this_minute(database))
    url = settings.database_url
    given = {} if url is None else {"database_url": url.get_secret_value()}
    config = settings.data_dir / "seawall.yaml"
    config.write_text(yaml.safe_dump({"grace_s": 1, **given}))
    config.chmod(0o600)
    log = settings.data_dir / "log"
    environment = {**os.environ, "SEAWALL_DATA_DIR": str(settings.data_dir)}
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        begun_at = database.clock.now()
        process = subprocess.Popen(
            [str(SEAWALL), "operationengine"], env=environment, stdout=output, stderr=output
        )
        try:
            query = sa.select(runs.c.triggered_at)

            def is_ready() -> bool:
                if process.poll() is not None:
                    raise SystemExit(f"seawall operationengine ended: {log.read_text()[-2000:]}")
                return count_of(database, query) == 1

            wait_for("a fresh engine to fire", is_ready)
            at: datetime = database.read(lambda connection: connection.execute(query).scalar_one())
            yield process.pid, (at - begun_at).total_seconds()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
