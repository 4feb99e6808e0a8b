# SPDX-License-Identifier: Apache-2.0
"""The resource graph of a plan: in which order its resources are taken, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from seawall.core.errors import FieldFault, InvalidInputError

Key = tuple[str, str]
"""(type, id): two types with one id are two resources."""


def key_of(resource: Mapping[str, Any]) -> Key:
    """What makes a resource one and the same."""
    return str(resource["type"]), str(resource["id"])


def order(resources: Sequence[Mapping[str, Any]]) -> list[int]:
    """Positions of the resources in the order in which they are taken: dependencies first, else as given.

    A resource may name others in ``extra_info.depends_on`` as [{"type", "id"}]. ``InvalidInputError`` names
    duplicates, unknown ones and cycles.
    """
    places: dict[Key, int] = {}
    faults: list[FieldFault] = []
    for number, resource in enumerate(resources):
        key = key_of(resource)
        if key in places:
            faults.append(
                FieldFault(
                    f"resources[{number}]", key[1], f"is the same {key[0]} as resources[{places[key]}]"
                )
            )
        places.setdefault(key, number)
    needs: dict[int, list[int]] = {}
    for number, resource in enumerate(resources):
        needs[number] = []
        field = f"resources[{number}].extra_info.depends_on"
        all_wanted = (resource.get("extra_info") or {}).get("depends_on", ())
        if not isinstance(all_wanted, (list, tuple)):
            faults.append(FieldFault(field, all_wanted, "must be a list"))
            continue
        for wanted in all_wanted:
            if not isinstance(wanted, Mapping) or not {"type", "id"} <= wanted.keys():
                faults.append(FieldFault(field, wanted, "must name a type and an id"))
            elif key_of(wanted) not in places:
                faults.append(FieldFault(field, wanted["id"], "is not a resource of this plan"))
            else:
                needs[number].append(places[key_of(wanted)])
    if faults:
        raise InvalidInputError(faults)
    try:
        sorter = TopologicalSorter(needs)
        sorter.prepare()
    except CycleError as error:
        names = " -> ".join(str(resources[number]["id"]) for number in reversed(error.args[1]))
        raise InvalidInputError.of("resources", names, "depend on each other in a circle") from error
    found: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found += ready
        sorter.done(*ready)
    return found
