# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints of one scope may go (I6).

A rule that is absent or <= 0 is off; with no rule on, everything is kept. ``available`` and
``available_with_warnings`` count and are removable. Never removed: the newest clean one, the newest verified
one, pinned and held ones, and whatever is not yet, or no longer, whole. Those in ``error`` are none of this
module's business: they go by age.

A checkpoint is kept when **any** active rule keeps it, but for Karbor's two limits: ``max_backups`` and
``retention_duration`` each remove what goes beyond them, as Karbor did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from seawall.core.duration import parse_duration
from seawall.core.errors import FieldFault, InvalidInputError
from seawall.core.states import RESTORABLE, CheckpointStatus

_BUCKETS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "keep_hourly": lambda at: (at.year, at.month, at.day, at.hour),
    "keep_daily": lambda at: (at.year, at.month, at.day),
    "keep_weekly": lambda at: tuple(at.isocalendar()[:2]),
    "keep_monthly": lambda at: (at.year, at.month),
    "keep_yearly": lambda at: (at.year,),
}
COUNT_RULES = ("max_backups", "retention_duration", "keep_last", *_BUCKETS)
RULES = (*COUNT_RULES, "keep_within")
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Retention:
    """Checked rules. 0 is off."""

    max_backups: int = 0
    retention_duration: int = 0
    """Days."""
    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta | None = None

    @property
    def is_active(self) -> bool:
        """Whether anything could ever be removed."""
        return self != Retention()


@dataclass(frozen=True, slots=True)
class Candidate:
    """What retention must know of a checkpoint."""

    id: str
    created_at: datetime
    status: str
    verified_at: datetime | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Kept or removed, and why, in words."""

    id: str
    is_kept: bool
    why: str


def parse_retention(rules: Mapping[str, Any], *, prefix: str = "") -> Retention:
    """Read rules; values may be Karbor's text. ``InvalidInputError`` names the wrong ones; other keys of
    ``rules`` are left alone, for they belong to the operation."""
    values: dict[str, Any] = {}
    faults: list[FieldFault] = []
    for name in COUNT_RULES:
        given = rules.get(name)
        if given is None:
            continue
        try:
            count = int(given) if isinstance(given, (int, str)) and not isinstance(given, bool) else None
        except ValueError:
            count = None
        if count is None or count > _MOST:
            faults.append(FieldFault(f"{prefix}{name}", given, f"must be a whole number up to {_MOST}"))
        else:
            values[name] = max(count, 0)
    within = rules.get("keep_within")
    if isinstance(within, str) and within.strip() not in ("", "0"):
        try:
            values["keep_within"] = parse_duration(within, field=f"{prefix}keep_within")
        except InvalidInputError as error:
            faults += error.fields
    elif within is not None and not isinstance(within, str) and within != 0:
        faults.append(FieldFault(f"{prefix}keep_within", within, "must be a duration like 7d"))
    if faults:
        raise InvalidInputError(faults)
    return Retention(**values)


def decide(
    retention: Retention, checkpoints: Sequence[Candidate], *, now: datetime, zone: ZoneInfo | None = None
) -> tuple[Verdict, ...]:
    """One verdict for each checkpoint of a scope, the newest first. ``zone`` (UTC) says when days begin."""
    newest_first = sorted(checkpoints, key=lambda one: (one.created_at, one.id), reverse=True)
    counted = [one for one in newest_first if one.status in RESTORABLE]
    safe = _never_removed(newest_first)
    kept_by = _kept_by_rules(retention, counted, now, zone or ZoneInfo("UTC"))
    beyond = _beyond_limits(retention, counted, now)
    has_keep_rule = retention.keep_within is not None or any(
        getattr(retention, name) for name in ("keep_last", *_BUCKETS)
    )
    verdicts = []
    for one in newest_first:
        if not retention.is_active:
            verdict = Verdict(one.id, True, "no retention rule is active")
        elif one.status not in RESTORABLE:
            verdict = Verdict(one.id, True, f"it is {one.status}")
        elif one.id in safe:
            verdict = Verdict(one.id, True, safe[one.id])
        elif one.id in beyond:
            verdict = Verdict(one.id, False, beyond[one.id])
        elif one.id in kept_by:
            verdict = Verdict(one.id, True, kept_by[one.id])
        elif has_keep_rule:
            verdict = Verdict(one.id, False, "no rule keeps it")
        else:
            verdict = Verdict(one.id, True, "it is within the limits")
        verdicts.append(verdict)
    return tuple(verdicts)


def _never_removed(newest_first: Sequence[Candidate]) -> dict[str, str]:
    safe: dict[str, str] = {}
    clean = next((one for one in newest_first if one.status == CheckpointStatus.AVAILABLE), None)
    if clean is not None:
        safe[clean.id] = "it is the newest clean one"
    else:
        # With no clean one at all, the newest that can be restored is the last good copy.
        warned = next((one for one in newest_first if one.status in RESTORABLE), None)
        if warned is not None:
            safe[warned.id] = "it is the newest that can be restored"
    verified = [one for one in newest_first if one.verified_at is not None and one.status in RESTORABLE]
    if verified:
        safe.setdefault(verified[0].id, "it is the newest verified one")
    for one in newest_first:
        if one.pinned:
            safe.setdefault(one.id, "it is pinned")
    return safe


def _kept_by_rules(
    retention: Retention, counted: Sequence[Candidate], now: datetime, zone: ZoneInfo
) -> dict[str, str]:
    kept: dict[str, str] = {}
    for one in counted[: retention.keep_last]:
        kept.setdefault(one.id, f"keep_last {retention.keep_last}")
    if retention.keep_within is not None:
        for one in counted:
            if one.created_at >= now - retention.keep_within:
                kept.setdefault(one.id, f"keep_within {retention.keep_within}")
    for name, bucket_of in _BUCKETS.items():
        count = getattr(retention, name)
        seen: dict[tuple[int, ...], str] = {}
        for one in counted:
            bucket = bucket_of(one.created_at.astimezone(zone))
            if bucket in seen:
                continue
            if len(seen) == count:
                break
            # The newest of its hour, day, ... stands for it.
            seen[bucket] = one.id
            kept.setdefault(one.id, f"{name} {count}")
    return kept


def _beyond_limits(retention: Retention, counted: Sequence[Candidate], now: datetime) -> dict[str, str]:
    beyond: dict[str, str] = {}
    if retention.max_backups:
        for one in counted[retention.max_backups :]:
            beyond[one.id] = f"it is beyond max_backups {retention.max_backups}"
    if retention.retention_duration:
        oldest = now - timedelta(days=retention.retention_duration)
        for one in counted:
            if one.created_at < oldest:
                beyond.setdefault(one.id, f"it is older than {retention.retention_duration} days")
    return beyond
