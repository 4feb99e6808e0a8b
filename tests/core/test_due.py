# SPDX-License-Identifier: Apache-2.0
"""Every due time is accounted for exactly once, whenever the engine looks (I1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.core.schedule import TimeSchedule, parse_time_properties, start_of, times_between
from seawall.core.schedule.due import Decision, decide_due, decide_past

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


# --- exclusions ------------------------------------------------------------------------------------


def quiet(action: str, *lines: str, name: str = "quiet") -> dict[str, str]:
    return {"name": name, "calendar": "\n".join(lines), "action": action}


def test_what_is_excluded_is_a_gap_of_its_own() -> None:
    one = schedule(exclusions=[quiet("skip", "DTSTART:20260328T000200Z", "DURATION:PT2M")])
    found = decide(one, 0, 310)
    assert [(gap.state, gap.count) for gap in found.gaps] == []
    assert [run.nominal_at for run in found.runs] == [START + timedelta(seconds=60)]
    assert found.next_run_at == START + timedelta(seconds=120)
    found = decide(one, 60, 310)
    assert [(gap.state, gap.count) for gap in found.gaps] == [("skipped_excluded", 2)]
    assert "quiet" in found.gaps[0].reason
    assert len(found.runs) == 2


def test_what_is_delayed_is_held_until_the_end_and_has_its_window_from_there() -> None:
    one = schedule(
        window=30,
        end_time="2026-03-28 00:03:00",
        exclusions=[quiet("delay", "DTSTART:20260328T000200Z", "DURATION:PT8M")],
    )
    held = decide(one, 60, 599)
    assert (held.runs, held.gaps, held.fired_through) == ((), (), START + timedelta(seconds=60))
    assert held.next_run_at == START + timedelta(seconds=600)
    found = decide(one, 60, 630)
    assert [(run.nominal_at, run.expected_at) for run in found.runs] == [
        (START + timedelta(seconds=180), START + timedelta(seconds=600))
    ]
    assert found.runs[0].deadline_at == START + timedelta(seconds=630)
    assert [(gap.state, gap.count) for gap in found.gaps] == [("skipped_excluded", 1)]
    ending = decide(one, 60, 599, is_ending=True)
    assert (ending.runs, [gap.count for gap in ending.gaps]) == ((), [2])


def test_a_delay_goes_on_where_another_exclusion_begins() -> None:
    first = quiet("delay", "DTSTART:20260328T000100Z", "DURATION:PT2M", name="first")
    second = quiet("delay", "DTSTART:20260328T000300Z", "DURATION:PT2M", name="second")
    skipping = quiet("skip", "DTSTART:20260328T000300Z", "DURATION:PT2M", name="skipping")
    found = decide(schedule(exclusions=[first, second], pattern="70"), 0, 75)
    assert found.next_run_at == START + timedelta(seconds=300)
    found = decide(schedule(exclusions=[first, skipping], pattern="70"), 0, 75)
    assert "skipping" in found.gaps[0].reason


def test_a_delay_of_more_than_a_year_leaves_it_out() -> None:
    """And it is no reason to refuse them, though fifty thousand due times come before the first run."""
    one = schedule(exclusions=[quiet("delay", "DTSTART:20260328", "RRULE:FREQ=DAILY;COUNT=400")])
    found = decide(one, 0, 60)
    assert (found.gaps[0].state, found.next_run_at) == ("skipped_excluded", START + timedelta(seconds=120))


EXCLUSIONS = st.lists(
    st.builds(
        lambda action, begin, minutes, every: quiet(
            action,
            f"DTSTART:20260328T{begin // 60:02}{begin % 60:02}00Z",
            f"DURATION:PT{minutes}M",
            f"RRULE:FREQ=MINUTELY;INTERVAL={every}",
        ),
        st.sampled_from(["skip", "delay"]),
        st.integers(0, 300),
        st.integers(1, 90),
        st.sampled_from([37, 120, 200]),
    ),
    max_size=2,
).map(lambda some: [{**one, "name": f"x{number}"} for number, one in enumerate(some)])


@given(
    POLICIES,
    EXCLUSIONS,
    st.sampled_from(["60", "700"]),
    st.lists(st.floats(0.5, 15_000), min_size=1, max_size=6),
    st.integers(0, 100),
)
@settings(max_examples=30, deadline=None)
def test_with_exclusions_too_every_due_time_comes_out_once(
    policy: dict[str, Any], exclusions: list[dict[str, str]], every: str, polls: list[float], offset_s: int
) -> None:
    try:
        one = schedule(pattern=every, exclusions=exclusions, **policy)
    except InvalidInputError:
        # They leave nothing to run.
        return
    offset, now, through = timedelta(seconds=offset_s), START, START
    accounted: list[datetime] = []
    for poll in polls:
        now += timedelta(seconds=poll)
        while True:
            found = decide_due(one, fired_through=through, now=now, offset=offset)
            missed = [at for gap in found.gaps for at in gap.times]
            ran = [run.nominal_at for run in found.runs]
            assert missed + ran == sorted(missed + ran), "gaps lie before runs"
            accounted += missed + ran
            for run in found.runs:
                start = start_of(one, run.nominal_at)
                assert not start.is_skipped
                assert run.expected_at == start.at + offset <= now
            starts = [run.expected_at for run in found.runs]
            assert len(starts) == len(set(starts)), "of those that start together the newest runs"
            through = found.fired_through
            assert found.next_run_at is not None
            if found.next_run_at > now:
                break
    due = times_between(one, START, now - offset)
    assert accounted == due[: len(accounted)]
    if len(accounted) < len(due):
        held = start_of(one, due[len(accounted)])
        assert held.name
        assert held.at + offset > now, "only what still waits for its exclusion to end has not come out"
    ending = decide_due(one, fired_through=through, now=now, offset=offset, is_ending=True)
    accounted += [at for gap in ending.gaps for at in gap.times]
    assert (ending.runs, accounted) == ((), due)


@given(EXCLUSIONS, st.sampled_from(["60", "700"]), st.integers(0, 100), st.integers(1, 9_000))
@settings(max_examples=60, deadline=None)
def test_what_is_made_up_for_is_what_the_schedule_would_have_started(
    exclusions: list[dict[str, str]], every: str, offset_s: int, now_s: int
) -> None:
    """An engine that looks at each start in time, and somebody who asks afterwards, come to the same."""
    try:
        one = schedule(pattern=every, exclusions=exclusions)
    except InvalidInputError:
        # They leave nothing to run.
        return
    offset, now, through = timedelta(seconds=offset_s), START + timedelta(seconds=now_s), START
    ran: list[tuple[datetime, ...]] = []
    left_out: dict[datetime, str] = {}
    at: datetime | None = START
    while at is not None and at <= now:
        found = decide_due(one, fired_through=through, now=at, offset=offset)
        ran += [(run.nominal_at, run.due_at, run.expected_at) for run in found.runs]
        left_out |= {nominal: gap.reason for gap in found.gaps for nominal in gap.times}
        through, at = found.fired_through, found.next_run_at
    nominal = times_between(one, START, now - offset)
    runs, excluded = decide_past(one, nominal, now=now, offset=offset)
    assert [(run.nominal_at, run.due_at, run.expected_at) for run in runs] == ran
    assert {key: reason for key, reason in excluded if key <= through} == left_out
    assert sorted([run.nominal_at for run in runs] + [key for key, _ in excluded]) == nominal
    # Any part of the range comes to the same.
    middle = len(nominal) // 2
    parts = [decide_past(one, part, now=now, offset=offset) for part in (nominal[:middle], nominal[middle:])]
    assert ([*parts[0][0], *parts[1][0]], [*parts[0][1], *parts[1][1]]) == (runs, excluded)
