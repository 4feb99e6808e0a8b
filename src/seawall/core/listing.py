# SPDX-License-Identifier: Apache-2.0
"""What a list may be asked: how many, from where on, in which order, which ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seawall.core.caller import Caller

MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """A question for a page of a list. Pages are found by key, so rows that come and go shift nothing."""

    limit: int = MAX_LIMIT
    """At most this many items, 1 to ``MAX_LIMIT``."""
    marker: str | None = None
    """The id of the last item already seen; an unknown one is a ``NotFoundError``."""
    sort: tuple[tuple[str, str], ...] = (("created_at", "desc"),)
    """(key, ``asc`` or ``desc``) pairs; an unknown key is an ``InvalidInputError`` of the field ``sort``."""
    filters: Mapping[str, Any] = field(default_factory=dict)
    """Field -> value that it must have; an unknown field is an ``InvalidInputError``."""
    all_projects: bool = False
    """Not only the caller's own project; the API lets only administrators ask so."""

    def project_of(self, caller: Caller) -> str | None:
        """Whose rows the list may show; None is all: only administrators are let ask for those (I11)."""
        return None if self.all_projects and caller.is_admin else caller.project_id
