# SPDX-License-Identifier: Apache-2.0
"""/protectables"""

from __future__ import annotations

import ast
from typing import Annotated, Any

from fastapi import Query

from seawall.api import documents
from seawall.api.asked import AskedDep
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.protectables import (
    InstanceAnswer,
    InstancesAnswer,
    InstanceView,
    ProtectableAnswer,
    ProtectablesAnswer,
    ProtectableView,
)
from seawall.core.errors import InvalidInputError

router = documents.router("protectables", "/protectables")

_MOST_PARAMETERS = 2048
Parameters = Annotated[str | None, Query(description="an object, as JSON or as Karbor's client writes it")]


@router.get("")
def list_protectables(asked: AskedDep) -> ProtectablesAnswer:
    return ProtectablesAnswer(protectable_type=list(asked.ports.catalogue.protectable_types()))


@router.get("/{resource_type}")
def show_protectable(resource_type: str, asked: AskedDep) -> ProtectableAnswer:
    found = asked.ports.catalogue.protectable(resource_type)
    return ProtectableAnswer(protectable_type=ProtectableView.of(found))


@router.get("/{resource_type}/instances")
def list_instances(resource_type: str, asked: AskedDep, parameters: Parameters = None) -> InstancesAnswer:
    """What the service's host has of a type, beneath what the project may touch."""
    query = list_query(asked, ("id", "name"), extra=("parameters", "type"))
    wanted = asked.request.query_params.get("type") or resource_type
    if wanted != resource_type:
        raise InvalidInputError.of("type", wanted, f"must be that of the path, {resource_type}")
    page = asked.ports.catalogue.list_instances(asked.caller, resource_type, _parsed(parameters), query)
    return InstancesAnswer(
        instances=[InstanceView.of(one) for one in page.items],
        instances_links=next_links(asked, page),
    )


# An id may be a path.
@router.get("/{resource_type}/instances/{instance_id:path}")
def show_instance(
    resource_type: str, instance_id: str, asked: AskedDep, parameters: Parameters = None
) -> InstanceAnswer:
    _parsed(parameters)
    found = asked.ports.catalogue.get_instance(asked.caller, resource_type, instance_id)
    return InstanceAnswer(instance=InstanceView.of(found))


def _parsed(text: str | None) -> dict[str, Any]:
    """JSON, or the text of a Python dict, which is what Karbor's client sends."""
    if not text:
        return {}
    if len(text) > _MOST_PARAMETERS:
        raise InvalidInputError.of("parameters", text, f"must have at most {_MOST_PARAMETERS} characters")
    try:
        found = documents.parse(text.encode("utf-8", "surrogatepass"))
    except InvalidInputError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise InvalidInputError.of("parameters", text, "must be an object") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidInputError.of("parameters", text, "must be an object")
    return found
