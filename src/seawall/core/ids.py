# SPDX-License-Identifier: Apache-2.0
"""Ids as people write them and as they are stored."""

from __future__ import annotations

from uuid import UUID

from seawall.core.errors import NotFoundError


def stored_id(kind: str, text: str) -> str:
    """An id as it is stored; what is no id at all is a ``NotFoundError``: nothing can have it."""
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFoundError(f"there is no {kind} {text}") from None
