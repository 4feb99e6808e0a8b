# SPDX-License-Identifier: Apache-2.0
"""Pure rules: errors, states, schedules, retention, graphs.

Called by every other package. Nothing here does I/O, reads a clock or knows a database: time is
an argument. May import the standard library, icalendar and orjson only.
"""
