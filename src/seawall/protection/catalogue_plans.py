# SPDX-License-Identifier: Apache-2.0
"""What a plan may say: each resource is there, may be touched, and its parameters are understood.

The file system is asked before the transaction that stores the plan, never inside it. Every fault is found in
one go, and names field, value and rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from seawall.core import graph
from seawall.core.errors import FieldFault, ForbiddenError, InvalidInputError, NotFoundError, PluginError
from seawall.core.records import Json, Provider
from seawall.runtime import json_schema
from seawall.sdk.beneath import checked_path

if TYPE_CHECKING:
    from seawall.protection.allowlist import AllowList
    from seawall.runtime.registry import Plugins
    from seawall.sdk.protection import Protectable, ProtectionPlugin

MAX_RESOURCES: Final = 1000
STATUSES: Final = ("suspended", "started")
"""Karbor's words; a new plan is suspended. Whether it runs is a matter of what is scheduled for it."""
NOTICES: Final = "notices"
"""The key of ``extra_info`` under which a resource says what is left out of it."""
HOST: Final = "host"
"""The key of ``extra_info`` under which a resource names the host that it lives on; this one if absent."""
_MAX_TEXT: Final = 255
_KEYS: Final = ("id", "type", "name", "extra_info")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSources:
    """Where a plan is checked against."""

    protectables: Plugins[Protectable]
    protections: Plugins[ProtectionPlugin]
    allowlist: AllowList
    host: str
    """This machine's name: resources that live on a host are looked for here, unless they name another."""
    hosts: Callable[[], Collection[str]] = tuple
    """The hosts that have a protection service now."""

    def types(self, provider: Provider) -> tuple[str, ...]:
        """The resource types that can be protected to a provider."""
        known = [name for name in self.protections.names() if name in self.protectables.names()]
        return tuple(name for name in known if not provider.resource_types or name in provider.resource_types)


@dataclass(frozen=True, slots=True)
class CheckedResources:
    """Resources that can be protected."""

    resources: tuple[Json, ...]
    host: str | None
    """Where their runs must go; None when any host will do."""


def checked_name(value: object) -> str:
    """A plan's name, or ``InvalidInputError``."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT or not value.isprintable():
        raise InvalidInputError.of(
            "name", value, f"must be 1 to {_MAX_TEXT} printable characters, not all blank"
        )
    return value


def checked_description(value: object) -> str:
    """A plan's description, or ``InvalidInputError``."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise InvalidInputError.of("description", value, f"must be text of at most {_MAX_TEXT} characters")
    return value


def checked_status(value: object) -> str:
    """A plan's status, or ``InvalidInputError``."""
    if value not in STATUSES:
        raise InvalidInputError.of("status", value, f"must be one of {', '.join(STATUSES)}")
    return str(value)


def check_resources(
    sources: PlanSources, project_id: str, provider: Provider, given: object
) -> CheckedResources:
    """The resources with their ids written alike, each found on this host now.

    ``InvalidInputError`` names every one that is wrong, that is missing or unreadable, that the project may
    not touch (I11), that is given twice, or that depends on itself in a circle. What lives on another host
    is looked at there, by its runs, and that host's allow-list decides.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or not 1 <= len(given) <= MAX_RESOURCES:
        raise InvalidInputError.of("resources", given, f"must be a list of 1 to {MAX_RESOURCES} resources")
    _refuse(fault for number, one in enumerate(given) for fault in _shape(f"resources[{number}]", one))
    types = sources.types(provider)
    _refuse(
        FieldFault(f"resources[{number}].type", one["type"], _type_rule(sources, provider, types))
        for number, one in enumerate(given)
        if one["type"] not in types
    )
    host = _host(sources, given)
    is_here = host in (None, sources.host)
    found: list[Json] = []
    faults: list[FieldFault] = []
    ids: dict[graph.Key, str] = {}
    for number, one in enumerate(given):
        try:
            checked = _checked_resource(sources, project_id, one, is_here=is_here)
        except InvalidInputError as error:
            faults += [FieldFault(f"resources[{number}].id", one["id"], fault.rule) for fault in error.fields]
        except (ForbiddenError, NotFoundError) as error:
            faults.append(FieldFault(f"resources[{number}].id", one["id"], f"cannot be protected: {error}"))
        else:
            ids[graph.key_of(one)] = checked["id"]
            found.append(checked)
    if faults:
        raise InvalidInputError(faults)
    for one in found:
        _rename_needs(one, ids)
    graph.order(found)
    return CheckedResources(tuple(found), host)


def check_parameters(
    given: object,
    resources: Sequence[Json],
    schema_of: Callable[[str], Mapping[str, Any]],
    *,
    field: str = "parameters",
) -> Json:
    """Parameters by ``<type>`` or ``<type>#<resource id>``, each as the type's plugin wants them."""
    if not isinstance(given, Mapping):
        raise InvalidInputError.of(field, given, "must be an object")
    types = sorted({str(one["type"]) for one in resources})
    faults: list[FieldFault] = []
    for key, value in given.items():
        kind, separator, resource_id = str(key).partition("#")
        path = f"{field}.{key}"
        if kind not in types:
            rule = f"must be <type> or <type>#<resource id>; the types of this plan are {', '.join(types)}"
            faults.append(FieldFault(path, value, rule))
        elif separator and (kind, resource_id) not in map(graph.key_of, resources):
            faults.append(FieldFault(path, value, f"names no {kind} of this plan"))
        else:
            faults += json_schema.faults(schema_of(kind), value, path)
    _refuse(faults)
    return dict(given)


def _shape(field: str, one: object) -> list[FieldFault]:
    if not isinstance(one, Mapping):
        return [FieldFault(field, one, "must be an object with type, id and name")]
    faults = [
        FieldFault(f"{field}.{key}", one[key], f"is not known; known are {', '.join(_KEYS)}")
        for key in one
        if key not in _KEYS
    ]
    for key in ("type", "id", "name"):
        value = one.get(key)
        if value is None:
            faults.append(FieldFault(f"{field}.{key}", value, "is needed"))
        elif not isinstance(value, str) or not value.strip():
            faults.append(FieldFault(f"{field}.{key}", value, "must be text that is not blank"))
    if not isinstance(one.get("extra_info") or {}, Mapping):
        faults.append(FieldFault(f"{field}.extra_info", one["extra_info"], "must be an object"))
    elif not isinstance((one.get("extra_info") or {}).get("depends_on", []), list):
        needs = one["extra_info"]["depends_on"]
        faults.append(FieldFault(f"{field}.extra_info.depends_on", needs, "must be a list of {type, id}"))
    return faults


def _type_rule(sources: PlanSources, provider: Provider, types: Sequence[str]) -> str:
    rule = f"is no resource type of the provider {provider.name!r}; there are {', '.join(types) or 'none'}"
    broken = [*sources.protectables.faults, *sources.protections.faults]
    return rule + (f"; not usable: {'; '.join(map(str, broken))}" if broken else "")


def _host(sources: PlanSources, given: Sequence[Mapping[str, Any]]) -> str | None:
    """The one host that the resources live on; None when they live on none."""
    host: str | None = None
    faults: list[FieldFault] = []
    for number, one in enumerate(given):
        if not sources.protectables.get(one["type"]).on_host:
            continue
        field = f"resources[{number}].extra_info.{HOST}"
        named = (one.get("extra_info") or {}).get(HOST, sources.host)
        known = sorted({sources.host, *sources.hosts()})
        if named not in known:
            rule = f"is no host with a protection service; there are {', '.join(known)}"
            faults.append(FieldFault(field, named, rule))
        elif host not in (None, named):
            rule = f"must be that of the other resources, {host}: a checkpoint is made on one host"
            faults.append(FieldFault(field, named, rule))
        else:
            host = named
    _refuse(faults)
    return host


def _checked_resource(
    sources: PlanSources, project_id: str, one: Mapping[str, Any], *, is_here: bool
) -> Json:
    protectable = sources.protectables.get(one["type"])()
    if protectable.on_host and not is_here:
        return {**one, "id": str(checked_path(one["id"])) if one["id"].startswith("/") else one["id"]}
    roots = sources.allowlist.roots(project_id)
    notices: tuple[str, ...] = ()
    is_path = protectable.on_host and one["id"].startswith("/")
    if is_path:
        notices = sources.allowlist.notices(sources.allowlist.check(project_id, one["id"]))
    instance = protectable.instance(one["id"], roots)
    info = {key: value for key, value in (one.get("extra_info") or {}).items() if key != NOTICES}
    if notices:
        info[NOTICES] = list(notices)
    checked: Json = {"type": one["type"], "id": instance.id, "name": one["name"]}
    return {**checked, "extra_info": info} if info else checked


def _rename_needs(one: Json, ids: Mapping[graph.Key, str]) -> None:
    """What it depends on may be written in another way than the resource itself."""
    needs = (one.get("extra_info") or {}).get("depends_on")
    if not needs:
        return
    renamed = [
        {**need, "id": ids.get(graph.key_of(need), _alike(str(need["id"])))}
        if isinstance(need, Mapping) and {"type", "id"} <= need.keys()
        else need
        for need in needs
    ]
    one["extra_info"] = {**one["extra_info"], "depends_on": renamed}


def _alike(resource_id: str) -> str:
    """A path as the resources write theirs; anything else as it is."""
    try:
        return str(checked_path(resource_id))
    except InvalidInputError:
        return resource_id


def _refuse(faults: Any) -> None:
    if found := list(faults):
        raise InvalidInputError(found)


def parameters_schema(sources: PlanSources) -> Callable[[str], Mapping[str, Any]]:
    """Type -> the schema of what a plan may say about it."""
    return lambda kind: _plugin(sources, kind).parameters_schema


def restore_schema(sources: PlanSources) -> Callable[[str], Mapping[str, Any]]:
    """Type -> the schema of what a restore may say about it."""
    return lambda kind: _plugin(sources, kind).restore_schema


def _plugin(sources: PlanSources, kind: str) -> type[ProtectionPlugin]:
    try:
        return sources.protections.get(kind)
    except PluginError as error:
        raise InvalidInputError.of("type", kind, f"cannot be used: {error}") from error
