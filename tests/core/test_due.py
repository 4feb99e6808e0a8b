# SPDX-License-Identifier: Apache-2.0
"""Every due time is accounted for exactly once, whenever the engine looks (I1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from seawall.core.schedule import TimeSchedule, parse_time_properties, times_between
from seawall.core.schedule.due import Decision, decide_due

START = datetime(2026, 3, 28, tzinfo=UTC)


def schedule(**properties: Any) -> TimeSchedule:
    given_ = {"format": "interval", "pattern": "60", "start_time": "2026-03-28 00:00:00", **properties}
    return parse_time_properties(given_, now=START, min_interval_s=1)


def decide(one: TimeSchedule, after_s: float, now_s: float, **more: Any) -> Decision:
    return decide_due(
        one,
        fired_through=START + timedelta(seconds=after_s),
        now=START + timedelta(seconds=now_s),
        **more,
    )


def test_what_is_on_time_runs_until_the_end_of_its_window() -> None:
    found = decide(schedule(window=30), 0, 60)
    assert [run.expected_at for run in found.runs] == [START + timedelta(seconds=60)]
    assert found.runs[0].deadline_at == START + timedelta(seconds=90)
    assert found.next_run_at == START + timedelta(seconds=120)


def test_the_last_instant_of_the_window_is_still_on_time() -> None:
    assert decide(schedule(window=30), 0, 90).gaps == ()
    assert decide(schedule(window=30, misfire="skip"), 0, 90.000001).runs == ()


def test_run_latest_runs_the_newest_only_with_a_new_deadline() -> None:
    found = decide(schedule(window=0), 0, 330)
    assert [run.nominal_at for run in found.runs] == [START + timedelta(seconds=300)]
    assert found.runs[0].deadline_at == START + timedelta(seconds=330)
    assert found.gaps[0].count == 4


def test_run_latest_runs_no_late_one_when_a_later_one_is_on_time() -> None:
    found = decide(schedule(window=45), 0, 340)
    assert [run.nominal_at for run in found.runs] == [START + timedelta(seconds=300)]
    assert found.gaps[0].count == 4


def test_run_all_runs_the_newest_few_one_after_the_other() -> None:
    found = decide(schedule(window=0, misfire="run_all", max_catchup=3), 0, 605)
    assert len(found.runs) == 3
    assert all(run.is_serial for run in found.runs)
    assert found.gaps[0].count == 7


def test_a_paused_trigger_advances_and_says_why() -> None:
    found = decide(schedule(), 0, 300, is_paused=True, paused_reason="moving house")
    assert found.runs == ()
    assert (found.gaps[0].state, found.gaps[0].count) == ("skipped_paused", 5)
    assert "moving house" in found.gaps[0].reason


def test_an_offset_moves_when_it_is_due_not_what_is_due() -> None:
    early = decide(schedule(), 0, 65, offset=timedelta(seconds=10))
    assert early.runs == ()
    assert early.next_run_at == START + timedelta(seconds=70)
    late = decide(schedule(), 0, 70, offset=timedelta(seconds=10))
    assert late.runs[0].nominal_at == START + timedelta(seconds=60)
    assert late.runs[0].expected_at == START + timedelta(seconds=70)


def test_a_year_of_silence_is_settled_in_bounded_steps() -> None:
    one = schedule(misfire="run_latest", window=0)
    through, now, missed, runs = START, START + timedelta(days=10), 0, 0
    for _ in range(100):
        found = decide_due(one, fired_through=through, now=now)
        missed += sum(gap.count for gap in found.gaps)
        runs += len(found.runs)
        through = found.fired_through
        if found.next_run_at is None or found.next_run_at > now:
            break
    assert (missed, runs) == (10 * 1440 - 1, 1)


POLICIES = st.fixed_dictionaries(
    {
        "misfire": st.sampled_from(["skip", "run_latest", "run_all"]),
        "window": st.sampled_from([0, 30, 600]),
        "max_catchup": st.integers(1, 5),
        "spread": st.just(0),
    }
)


@given(
    POLICIES,
    st.sampled_from([("interval", "60"), ("crontab", "*/7 * * * *"), ("crontab", "30 1,2,3 * * *")]),
    st.lists(st.floats(0.5, 30_000), min_size=1, max_size=12),
    st.integers(0, 100),
    st.booleans(),
)
def test_runs_and_gaps_are_all_due_times_once(
    policy: dict[str, Any], pattern: tuple[str, str], polls: list[float], offset_s: int, is_paused: bool
) -> None:
    one = schedule(format=pattern[0], pattern=pattern[1], timezone="Europe/Paris", **policy)
    offset = timedelta(seconds=offset_s)
    now, through = START, START
    accounted: list[datetime] = []
    for poll in polls:
        now += timedelta(seconds=poll)
        found = decide_due(one, fired_through=through, now=now, offset=offset, is_paused=is_paused)
        assert found.fired_through >= through
        for gap in found.gaps:
            assert gap.count == len(gap.times)
            accounted += gap.times
        accounted += [run.nominal_at for run in found.runs]
        assert all(run.deadline_at >= now for run in found.runs)
        through = found.fired_through
        assert found.next_run_at is not None
        assert found.next_run_at > now
    assert accounted == times_between(one, START, now - offset)
