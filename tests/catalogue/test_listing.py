# SPDX-License-Identifier: Apache-2.0
"""What there is to choose from: providers, resource types, and the resources of this host."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from seawall.core.errors import ForbiddenError, InvalidInputError, NotFoundError
from seawall.core.listing import ListQuery
from tests.catalogue.ground import Ground


def test_providers_are_listed_without_what_their_banks_are_told(ground: Ground) -> None:
    for name in ("zoo", "ant"):
        path = ground.data.providers / f"{name}.yaml"
        path.write_text(f"id: {uuid4()}\nname: {name}\nbank: {{type: file, path: /srv/{name}}}\n")
        path.chmod(0o600)
    (ground.data.providers / "broken.yaml").write_text("x")
    page = ground.catalogue.list_providers(ground.caller, ListQuery(limit=2))
    assert [one.name for one in page.items] == ["ant", "default"]
    assert all(one.bank_options == {} for one in page.items)
    assert page.items[0].resource_types == ("directory", "note", "sqlite")
    rest = ground.catalogue.list_providers(ground.caller, ListQuery(limit=2, marker=page.next_marker))
    assert ([one.name for one in rest.items], rest.next_marker) == (["zoo"], None)
    named = ground.catalogue.list_providers(ground.caller, ListQuery(filters={"name": "zoo"}))
    assert len(named.items) == 1
    down = ground.catalogue.list_providers(ground.caller, ListQuery(sort=(("name", "desc"),)))
    assert [one.name for one in down.items] == ["zoo", "default", "ant"]
    assert ground.catalogue.get_provider(ground.caller, page.items[1].id).name == "default"
    with pytest.raises(NotFoundError, match="broken.yaml"):
        ground.catalogue.get_provider(ground.caller, str(uuid4()))


@pytest.mark.parametrize(
    "query",
    [
        ListQuery(filters={"bank": "file"}),
        ListQuery(sort=(("bank", "asc"),)),
    ],
)
def test_an_unknown_filter_or_key_is_refused(ground: Ground, query: ListQuery) -> None:
    with pytest.raises(InvalidInputError):
        ground.catalogue.list_providers(ground.caller, query)


def test_an_unknown_marker_is_not_found(ground: Ground) -> None:
    with pytest.raises(NotFoundError):
        ground.catalogue.list_providers(ground.caller, ListQuery(marker=str(uuid4())))


def test_a_type_is_known_when_it_can_be_found_and_stored(ground: Ground) -> None:
    assert ground.catalogue.protectable_types() == ("directory", "note", "sqlite")
    found = ground.catalogue.protectable("directory")
    assert (found.name, found.dependent_types, found.on_host) == ("directory", (), True)
    assert "excludes" in found.parameters_schema["properties"]
    assert "overwrite" in found.restore_schema["properties"]
    for call in (
        lambda: ground.catalogue.protectable("moon"),
        lambda: ground.catalogue.get_instance(ground.caller, "moon", "x"),
        lambda: ground.catalogue.list_instances(ground.caller, "moon", {}, ListQuery()),
    ):
        with pytest.raises(InvalidInputError, match="directory, note, sqlite"):
            call()


def test_instances_are_those_that_the_project_may_touch(ground: Ground) -> None:
    for name in ("a", "b", "c"):
        ground.directory(name)
    ground.sqlite()

    def listed(kind: str, query: ListQuery | None = None, **parameters: Any) -> list[str]:
        page = ground.catalogue.list_instances(ground.caller, kind, parameters, query or ListQuery())
        return [one.name for one in page.items]

    assert listed("directory") == ["srv"]
    assert listed("directory", path=str(ground.srv)) == ["a", "b", "c"]
    assert listed("sqlite") == ["app.db"]
    assert listed("note", ListQuery(limit=2)) == ["note 0", "note 1"]
    assert listed("note", ListQuery(limit=2, marker="n3")) == ["note 4"]
    assert listed("note", ListQuery(limit=1, sort=(("name", "desc"),))) == ["note 4"]
    page = ground.catalogue.list_instances(ground.stranger, "directory", {}, ListQuery())
    assert page.items == ()
    with pytest.raises(ForbiddenError):
        ground.catalogue.get_instance(ground.stranger, "directory", str(ground.srv / "a"))
    assert ground.catalogue.get_instance(ground.caller, "directory", str(ground.srv / "a")).name == "a"


@pytest.mark.parametrize(
    ("kind", "parameters", "field"),
    [
        ("directory", {"colour": 1}, "parameters.colour"),
        ("directory", {"path": 5}, "parameters.path"),
        ("sqlite", {"depth": 99}, "parameters.depth"),
        ("note", {"anything": 1}, "parameters.anything"),
    ],
)
def test_parameters_of_a_list_are_checked(ground: Ground, kind: str, parameters: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ground.catalogue.list_instances(ground.caller, kind, parameters, ListQuery())
    assert caught.value.fields[0].field == field
