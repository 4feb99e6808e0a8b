# SPDX-License-Identifier: Apache-2.0
"""When things are due: pure functions of a time trigger's properties and of instants.

``parse_time_properties`` makes a ``TimeSchedule`` of what a user has written, or says what is wrong with it;
``next_after`` and its kind answer when it is due; ``due.decide_due`` says what a claim does about it. API,
engine, preview and command line ask the same functions. Nothing here reads a clock.
"""

from seawall.core.schedule.occurrences import (
    count_between,
    fixed_offset,
    next_after,
    next_run_at,
    start_of,
    times_between,
)
from seawall.core.schedule.preview import PreviewedTime, preview
from seawall.core.schedule.time_properties import TimeSchedule, load_schedule, parse_time_properties
from seawall.core.schedule.words import describe

__all__ = [
    "PreviewedTime",
    "TimeSchedule",
    "count_between",
    "describe",
    "fixed_offset",
    "load_schedule",
    "next_after",
    "next_run_at",
    "parse_time_properties",
    "preview",
    "start_of",
    "times_between",
]
