# SPDX-License-Identifier: Apache-2.0
"""What catches up after a misfire keeps its turn, whatever becomes due meanwhile (design section 4)."""

from __future__ import annotations

import pytest

from seawall.db import runs as run_rows
from tests.engine.ground import START, Ground


@pytest.mark.parametrize("overlap", ["queue_one", "cancel_running"])
def test_what_catches_up_is_cancelled_by_no_newer_one(each: Ground, overlap: str) -> None:
    """One after the other, whatever the overlap policy; those that work and those that wait."""
    each.operation(each.trigger(window=10, misfire="run_all", max_catchup=3), overlap=overlap)
    each.go_to(205)
    each.claim_all()
    each.database.write(
        "test.work",
        lambda tx: run_rows.claim(tx, service_row=1, host="here", limit=1, lease_until=each.at(10**6)),
    )
    for seconds in (240, 300):
        each.go_to(seconds)
        each.claim_all()
    found = {int((run.expected_at - START).total_seconds()): run.state for run in each.runs()}
    newest = "skipped_overlap" if overlap == "queue_one" else "cancelled"
    assert found == {60: "in_progress", 120: "queued", 180: "queued", 240: newest, 300: "queued"}
