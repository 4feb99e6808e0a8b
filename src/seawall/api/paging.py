# SPDX-License-Identifier: Apache-2.0
"""Lists: query parameters to a ``ListQuery``, and the link to the next page.

Pages are found by key (``marker``): rows that come and go between two pages neither repeat nor hide others.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlencode

from seawall.api.asked import Asked
from seawall.api.schemas.common import Link
from seawall.core.errors import FieldFault, ForbiddenError, InvalidInputError
from seawall.core.listing import MAX_LIMIT, ListQuery
from seawall.core.records import Page

_PAGING = frozenset(
    {"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "project_id"}
)
_TRUE = frozenset({"true", "yes", "y", "1", "t", "on"})
_FALSE = frozenset({"false", "no", "n", "0", "f", "off", ""})


def list_query(asked: Asked, filters: Collection[str] = (), *, extra: Collection[str] = ()) -> ListQuery:
    """The question in the query string; ``extra`` are parameters that the route reads itself."""
    given = dict(asked.request.query_params)
    known = {*_PAGING, *filters, *extra}
    unknown = [name for name in given if name not in known]
    if unknown:
        rule = "is not known here; known are " + ", ".join(sorted(known))
        raise InvalidInputError([FieldFault(name, given[name], rule) for name in unknown])
    all_projects = flag("all_tenants", given.get("all_tenants", ""))
    if all_projects and not asked.caller.is_admin:
        raise ForbiddenError("only an administrator may list all projects")
    wanted = {name: given[name] for name in filters if given.get(name, "") != ""}
    if all_projects and given.get("project_id"):
        wanted["project_id"] = given["project_id"]
    if given.get("offset", "0") not in ("0", ""):
        raise InvalidInputError.of("offset", given["offset"], "is not possible here; go on with marker")
    return ListQuery(
        limit=_limit(given.get("limit")),
        marker=given.get("marker") or None,
        sort=_sort(given),
        filters=wanted,
        all_projects=all_projects,
    )


def next_links(asked: Asked, page: Page[object]) -> list[Link] | None:
    """``<collection>_links`` of a page; None at the end."""
    if page.next_marker is None:
        return None
    query = {**dict(asked.request.query_params), "marker": page.next_marker}
    url = asked.request.url.replace(query=urlencode(query))
    return [Link(rel="next", href=str(url))]


def _limit(text: str | None) -> int:
    if text is None or text == "":
        return MAX_LIMIT
    try:
        limit = int(text)
    except ValueError:
        raise InvalidInputError.of("limit", text, "must be a whole number") from None
    if limit <= 0:
        raise InvalidInputError.of("limit", text, "limit param must be positive")
    return min(limit, MAX_LIMIT)


def _sort(given: dict[str, str]) -> tuple[tuple[str, str], ...]:
    by_pair = "sort_key" in given or "sort_dir" in given
    if "sort" in given and by_pair:
        raise InvalidInputError.of(
            "sort", given["sort"], "cannot be used together with sort_key and sort_dir"
        )
    if by_pair:
        keys = [(given.get("sort_key") or "created_at", given.get("sort_dir") or "desc")]
    elif given.get("sort"):
        pieces = [piece.strip().partition(":") for piece in given["sort"].split(",")]
        keys = [(name, direction or "desc") for name, _, direction in pieces]
    else:
        keys = [("created_at", "desc")]
    for name, direction in keys:
        if not name:
            raise InvalidInputError.of("sort", given.get("sort", ""), "must be key[:dir],key[:dir]")
        if direction not in ("asc", "desc"):
            raise InvalidInputError.of("sort", direction, "has a direction that is neither asc nor desc")
    return tuple(keys)


def flag(name: str, text: str) -> bool:
    """A yes or no of a query."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidInputError.of(name, text, "must be true or false")
