# SPDX-License-Identifier: Apache-2.0
"""Who asks: carried from the API into every service call and into the audit log (I11)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, bound to one project."""

    project_id: str
    user_id: str
    is_admin: bool
    request_id: str = ""
