# SPDX-License-Identifier: Apache-2.0
"""Durations in words ("7d", "36h"), and "every day at 02:00" as the properties of a trigger."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from seawall.core.errors import InvalidInputError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_PART = re.compile(r"(\d+)\s*([smhdw])")
_WHOLE = re.compile(r"(\s*\d+\s*[smhdw])+\s*")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_MAX = timedelta(days=36_600)
_CRONTABS = {
    "hour": "{minute} * * * *",
    "day": "{minute} {hour} * * *",
    "week": "{minute} {hour} * * 0",
    "month": "{minute} {hour} 1 * *",
}


def parse_duration(text: str, *, field: str) -> timedelta:
    """``7d``, ``1d12h``, ``90m``; ``InvalidInputError`` of ``field`` when it is anything else or 0."""
    if not _WHOLE.fullmatch(text):
        raise InvalidInputError.of(field, text, "must be a duration like 7d, 36h or 90m")
    seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    if not 0 < seconds <= _MAX.total_seconds():
        raise InvalidInputError.of(field, text, "must be longer than nothing and at most 100 years")
    return timedelta(seconds=seconds)


def every_at(every: str, *, at: str | None, zone: str) -> dict[str, Any]:
    """Trigger properties of ``--every day --at 02:00``: a crontab for words, an interval for durations.

    Without a time, days, weeks (Sundays) and months begin at 02:00, hours at minute 0.
    """
    if every not in _CRONTABS:
        if at is not None:
            raise InvalidInputError.of("--at", at, "goes with --every hour, day, week or month only")
        duration = parse_duration(every, field="--every")
        return {"format": "interval", "pattern": str(int(duration.total_seconds()))}
    found = _TIME.fullmatch(at or ("00:00" if every == "hour" else "02:00"))
    if found is None:
        raise InvalidInputError.of("--at", at, "must be a time of day like 02:00")
    pattern = _CRONTABS[every].format(hour=int(found[1]), minute=int(found[2]))
    return {"format": "crontab", "pattern": pattern, "timezone": zone}
