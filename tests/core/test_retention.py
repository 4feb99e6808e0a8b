# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints may go, and which never may (I6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.core.retention import RULES, Candidate, Retention, Verdict, decide, parse_retention
from seawall.core.states import RESTORABLE, CheckpointStatus

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLEAN, WARNED = CheckpointStatus.AVAILABLE, CheckpointStatus.AVAILABLE_WITH_WARNINGS


def made(hours_ago: float, status: str = CLEAN, **more: Any) -> Candidate:
    return Candidate(f"{hours_ago:g}h", NOW - timedelta(hours=hours_ago), status, **more)


def days(count: int) -> list[Candidate]:
    return [made(24 * day + 1) for day in range(count)]


def kept(verdicts: tuple[Verdict, ...]) -> list[str]:
    return [one.id for one in verdicts if one.is_kept]


def why(verdicts: tuple[Verdict, ...], id: str) -> str:
    return next(one.why for one in verdicts if one.id == id)


# --- the rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [{}, {"max_backups": -1}, {"keep_last": 0}, {"max_backups": "-1"}])
def test_no_active_rule_keeps_everything(off: dict[str, Any]) -> None:
    retention = parse_retention(off)
    assert not retention.is_active
    assert len(kept(decide(retention, days(50), now=NOW))) == 50


def test_max_backups_keeps_the_newest_few() -> None:
    assert kept(decide(parse_retention({"max_backups": "2"}), days(5), now=NOW)) == ["1h", "25h"]


def test_keep_last_keeps_the_newest_few() -> None:
    assert kept(decide(Retention(keep_last=3), days(5), now=NOW)) == ["1h", "25h", "49h"]


def test_retention_duration_is_in_days() -> None:
    found = decide(parse_retention({"retention_duration": 2}), days(5), now=NOW)
    assert kept(found) == ["1h", "25h"]
    assert "older than 2 days" in why(found, "49h")


def test_keep_within_counts_back_from_now() -> None:
    found = decide(parse_retention({"keep_within": "36h"}), days(5), now=NOW)
    assert kept(found) == ["1h", "25h"]


def test_the_newest_of_each_day_stands_for_it() -> None:
    hourly = [made(hour) for hour in range(1, 73)]
    found = decide(Retention(keep_daily=3), hourly, now=NOW)
    assert kept(found) == ["1h", "13h", "37h"]


def test_days_without_a_checkpoint_use_up_no_place() -> None:
    found = decide(Retention(keep_daily=2), [made(1), made(24 * 30), made(24 * 60)], now=NOW)
    assert kept(found) == ["1h", "720h"]


def test_days_begin_where_the_zone_says() -> None:
    """23:30 and 00:30 UTC are two days in UTC and one in Paris."""
    pair = [made(12.5), made(11.5)]
    assert len(kept(decide(Retention(keep_daily=2), [*pair, made(72)], now=NOW))) == 2
    in_paris = decide(Retention(keep_daily=1), pair, now=NOW, zone=ZoneInfo("Europe/Paris"))
    assert kept(in_paris) == ["11.5h"]


def test_the_calendar_rules_add_up() -> None:
    retention = Retention(keep_daily=2, keep_monthly=3, keep_yearly=2)
    found = kept(decide(retention, days(800), now=NOW))
    assert found == ["1h", "25h", "577h", "1321h", "7873h"]


def test_karbors_limits_win_over_what_the_keep_rules_keep() -> None:
    found = decide(Retention(keep_last=4, max_backups=2), days(5), now=NOW)
    assert kept(found) == ["1h", "25h"]


def test_checkpoints_with_warnings_count_and_are_removable() -> None:
    candidates = [made(1), made(2, WARNED), made(3, WARNED)]
    assert kept(decide(Retention(keep_last=2), candidates, now=NOW)) == ["1h", "2h"]


# --- what never goes ---------------------------------------------------------------------------------


def test_the_newest_clean_one_stays_behind_any_number_with_warnings() -> None:
    candidates = [made(1, WARNED), made(2, WARNED), made(3), made(4)]
    found = decide(Retention(keep_last=1), candidates, now=NOW)
    assert kept(found) == ["1h", "3h"]
    assert "newest clean" in why(found, "3h")


def test_the_newest_verified_one_stays() -> None:
    candidates = [made(1), made(2), made(3, verified_at=NOW), made(4, verified_at=NOW)]
    found = decide(Retention(max_backups=1), candidates, now=NOW)
    assert kept(found) == ["1h", "3h"]
    assert "newest verified" in why(found, "3h")


def test_pinned_ones_stay() -> None:
    found = decide(Retention(max_backups=1), [made(1), made(2, pinned=True), made(3)], now=NOW)
    assert kept(found) == ["1h", "2h"]
    assert "pinned" in why(found, "2h")


def test_when_none_is_clean_the_newest_with_warnings_stays() -> None:
    old = [made(24 * 400, WARNED), made(24 * 500, WARNED)]
    assert kept(decide(Retention(retention_duration=1), old, now=NOW)) == ["9600h"]


@pytest.mark.parametrize("status", ["protecting", "error", "deleting"])
def test_what_is_not_whole_is_left_alone_and_takes_no_place(status: str) -> None:
    candidates = [made(1, status), made(2), made(3)]
    assert kept(decide(Retention(max_backups=1), candidates, now=NOW)) == ["1h", "2h"]


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"max_backups": "two"}, "max_backups"),
        ({"max_backups": True}, "max_backups"),
        ({"max_backups": 1.5}, "max_backups"),
        ({"keep_last": 100_001}, "keep_last"),
        ({"keep_daily": [1]}, "keep_daily"),
        ({"keep_within": "soon"}, "keep_within"),
        ({"keep_within": 7}, "keep_within"),
    ],
)
def test_a_bad_rule_is_named_with_its_value(rules: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_retention(rules, prefix="definition.")
    assert [(fault.field, fault.value) for fault in caught.value.fields] == [
        (f"definition.{field}", rules[field])
    ]


def test_all_bad_rules_are_named_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_retention({"max_backups": "x", "keep_last": "y", "keep_within": "z"})
    assert len(caught.value.fields) == 3


# --- properties --------------------------------------------------------------------------------------

COUNTS = st.integers(-1, 6)
RETENTIONS = st.fixed_dictionaries(
    {},
    optional={
        name: COUNTS if name != "keep_within" else st.sampled_from(["1h", "3d", "90d"]) for name in RULES
    },
).map(parse_retention)


@st.composite
def scopes(draw: st.DrawFn) -> list[Candidate]:
    """A scope in any order, with ties of the creation time."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 3000),
                st.sampled_from(list(CheckpointStatus)),
                st.booleans(),
                st.sampled_from([False, False, False, True]),
            ),
            max_size=30,
        )
    )
    return [
        Candidate(str(number), NOW - timedelta(hours=hours), status, NOW if verified else None, pinned)
        for number, (hours, status, verified, pinned) in enumerate(drawn)
    ]


@given(RETENTIONS, scopes())
def test_each_checkpoint_gets_one_verdict_with_a_reason(
    retention: Retention, candidates: list[Candidate]
) -> None:
    found = decide(retention, candidates, now=NOW)
    assert sorted(one.id for one in found) == sorted(one.id for one in candidates)
    assert all(one.why for one in found)


@given(RETENTIONS, scopes())
def test_the_newest_clean_the_newest_verified_and_pinned_ones_are_never_removed(
    retention: Retention, candidates: list[Candidate]
) -> None:
    removed = {one.id for one in decide(retention, candidates, now=NOW) if not one.is_kept}
    whole = [one for one in candidates if one.status in RESTORABLE]
    assert removed <= {one.id for one in whole if not one.pinned}
    for group in (
        [one for one in whole if one.status == CLEAN],
        [one for one in whole if one.verified_at is not None],
    ):
        if group:
            newest = max(one.created_at for one in group)
            assert {one.id for one in group if one.created_at == newest} - removed
    assert not whole or {one.id for one in whole} - removed


@given(RETENTIONS, scopes())
def test_the_order_of_the_rows_changes_nothing(retention: Retention, candidates: list[Candidate]) -> None:
    forwards = decide(retention, candidates, now=NOW)
    assert decide(retention, candidates[::-1], now=NOW) == forwards


@given(RETENTIONS, scopes())
def test_a_second_pass_at_the_same_time_removes_nothing_more(
    retention: Retention, candidates: list[Candidate]
) -> None:
    left = set(kept(decide(retention, candidates, now=NOW)))
    again = decide(retention, [one for one in candidates if one.id in left], now=NOW)
    assert set(kept(again)) == left


@given(scopes(), st.sampled_from([name for name in RULES if name != "keep_within"]), st.integers(1, 5))
def test_a_more_generous_count_keeps_no_less(candidates: list[Candidate], rule: str, count: int) -> None:
    few = set(kept(decide(parse_retention({rule: count}), candidates, now=NOW)))
    more = set(kept(decide(parse_retention({rule: count + 1}), candidates, now=NOW)))
    assert few <= more


@given(
    scopes(), st.integers(0, 3), st.sampled_from(["keep_hourly", "keep_daily", "keep_weekly", "keep_yearly"])
)
def test_one_more_keep_rule_keeps_no_less(candidates: list[Candidate], count: int, rule: str) -> None:
    alone = set(kept(decide(Retention(keep_last=2), candidates, now=NOW)))
    both = set(kept(decide(parse_retention({"keep_last": 2, rule: count}), candidates, now=NOW)))
    assert alone <= both


@given(scopes(), st.integers(1, 5), st.floats(0, 5000))
def test_what_is_out_stays_out_as_time_goes_on(candidates: list[Candidate], span: int, hours: float) -> None:
    retention = Retention(retention_duration=span)
    now = set(kept(decide(retention, candidates, now=NOW)))
    later = set(kept(decide(retention, candidates, now=NOW + timedelta(hours=hours))))
    assert later <= now
