# SPDX-License-Identifier: Apache-2.0
"""Who asks: carried from the API into every service call and into the audit log (I11)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller is trusted with; what that lets it do stands in ``api.policy``."""

    ADMIN = "admin"
    """Everything, services and the lists of all projects included."""
    OPERATOR = "operator"
    """Everything in its own project."""
    RESTORER = "restorer"
    """Sees its project and brings things back; makes, changes and deletes nothing else."""
    VIEWER = "viewer"
    """Sees its project."""
    AUDITOR = "auditor"
    """Sees its project and the log of who changed what."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, bound to one project."""

    project_id: str
    user_id: str
    is_admin: bool
    request_id: str = ""
    role: Role = Role.OPERATOR
    """Of no account for an administrator, who may do everything."""
