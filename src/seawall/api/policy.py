# SPDX-License-Identifier: Apache-2.0
"""Who may do what: the one table. Each route of the API stands here by its name; any other is refused.

Whatever the role, everything happens inside the caller's own project (I11); only an administrator may list
all projects (``api.paging``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from seawall.core.caller import Caller, Role
from seawall.core.errors import ForbiddenError

_ADMINS = frozenset({Role.ADMIN})
_OPERATORS = frozenset({Role.ADMIN, Role.OPERATOR})
_RESTORERS = frozenset({*_OPERATORS, Role.RESTORER})
_READERS = frozenset(Role)

ALLOWED: Mapping[str, frozenset[Role]] = {
    "list_plans": _READERS,
    "show_plan": _READERS,
    "create_plan": _OPERATORS,
    "update_plan": _OPERATORS,
    "delete_plan": _OPERATORS,
    "list_providers": _READERS,
    "show_provider": _READERS,
    "list_checkpoints": _READERS,
    "show_checkpoint": _READERS,
    "list_checkpoint_files": _RESTORERS,
    "download_checkpoint_files": _RESTORERS,
    "create_checkpoint": _OPERATORS,
    "update_checkpoint": _OPERATORS,
    "delete_checkpoint": _OPERATORS,
    "list_protectables": _READERS,
    "show_protectable": _READERS,
    "list_instances": _READERS,
    "show_instance": _READERS,
    "list_triggers": _READERS,
    "show_trigger": _READERS,
    "preview_properties": _READERS,
    "preview_trigger": _READERS,
    "create_trigger": _OPERATORS,
    "update_trigger": _OPERATORS,
    "delete_trigger": _OPERATORS,
    "pause_trigger": _OPERATORS,
    "resume_trigger": _OPERATORS,
    "rotate_secret": _OPERATORS,
    "list_operation_types": _READERS,
    "list_operations": _READERS,
    "show_operation": _READERS,
    "create_operation": _OPERATORS,
    "update_operation": _OPERATORS,
    "delete_operation": _OPERATORS,
    "run_operation": _OPERATORS,
    "backfill_operation": _OPERATORS,
    "list_restores": _READERS,
    "show_restore": _READERS,
    "create_restore": _RESTORERS,
    "list_operation_logs": _READERS,
    "show_operation_log": _READERS,
    "list_runs": _READERS,
    "show_run": _READERS,
    "show_run_log": _READERS,
    "cancel_run": _OPERATORS,
    "list_services": _ADMINS,
    "update_service": _ADMINS,
    "show_quota": _READERS,
    "show_quota_defaults": _READERS,
    "show_quota_class": _READERS,
}


def require(caller: Caller, route: str) -> None:
    """``ForbiddenError`` unless the caller may use this route."""
    role = Role.ADMIN if caller.is_admin else caller.role
    allowed = ALLOWED.get(route, frozenset())
    if role not in allowed:
        roles = " or ".join(sorted(allowed)) or "nobody"
        raise ForbiddenError(f"the role {role} may not {route.replace('_', ' ')}", hint=f"{roles} may")


def check_complete(routes: Iterable[str]) -> None:
    """At start: the table and the routes of the application name each other exactly."""
    named = set(routes)
    if named != set(ALLOWED):
        raise AssertionError(f"routes without a row, or rows without a route: {named ^ set(ALLOWED)}")
