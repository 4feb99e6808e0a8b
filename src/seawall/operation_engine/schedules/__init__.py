# SPDX-License-Identifier: Apache-2.0
"""Triggers, scheduled operations and runs, as users see and change them: the API's ``SchedulesPort``."""

from seawall.operation_engine.schedules.definitions import PlanLookup
from seawall.operation_engine.schedules.facade import Schedules

__all__ = ["PlanLookup", "Schedules"]
