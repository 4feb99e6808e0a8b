# SPDX-License-Identifier: Apache-2.0
"""Pages of lists that are in no table: providers, and what a host has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from seawall.core.errors import FieldFault, InvalidInputError, NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Page

T = TypeVar("T")
Key = Callable[[T], str]
# The order that lists of rows have when none is asked for; here it is the order of the list itself.
_NATURAL = "created_at"


def page_of(
    items: Iterable[T],
    query: ListQuery,
    *,
    id_of: Key[T],
    keys: Mapping[str, Key[T]],
    fields: Sequence[str] = (),
) -> Page[T]:
    """The page that is asked for. ``keys`` can be sorted by, ``fields`` of them be filtered by.

    Reads no further than the page when no order is asked for. ``InvalidInputError`` for an unknown key or
    filter, ``NotFoundError`` for an unknown marker.
    """
    wanted = _filtered(items, query, keys, fields)
    for name, direction in reversed(query.sort):
        if name == _NATURAL:
            continue
        if name not in keys:
            raise InvalidInputError.of("sort", name, f"must be one of {', '.join(sorted(keys))}")
        wanted = sorted(wanted, key=keys[name], reverse=direction == "desc")
    remaining = iter(wanted)
    if query.marker is not None and not any(id_of(one) == query.marker for one in remaining):
        raise NotFoundError(f"there is nothing with the marker {query.marker}")
    found = tuple(islice(remaining, query.limit))
    is_last = next(remaining, None) is None
    return Page(found, None if is_last or not found else id_of(found[-1]))


def _filtered(
    items: Iterable[T], query: ListQuery, keys: Mapping[str, Key[T]], fields: Sequence[str]
) -> Iterable[T]:
    unknown = [name for name in query.filters if name not in fields]
    if unknown:
        rule = f"is no filter here; known are {', '.join(fields) or 'none'}"
        raise InvalidInputError([FieldFault(name, query.filters[name], rule) for name in unknown])
    return (
        one for one in items if all(keys[name](one) == str(value) for name, value in query.filters.items())
    )
