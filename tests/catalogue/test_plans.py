# SPDX-License-Identifier: Apache-2.0
"""A plan is stored only when every resource of it can be protected; a refusal names field, value and rule."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from seawall.api.ports import CataloguePort
from seawall.core.caller import Caller
from seawall.core.errors import ConflictError, InUseError, InvalidInputError, NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Json, Plan
from seawall.db import audit, plans, runs, scheduled_operations, tables, triggers
from seawall.db.runs import NewRun
from seawall.db.scheduled_operations import NewOperation
from tests.catalogue.ground import Ground


def create(ground: Ground, *resources: Json, caller: Caller | None = None, **more: Any) -> Plan:
    catalogue: CataloguePort = ground.catalogue
    given = {"name": "p", "provider_id": ground.provider.id, "resources": list(resources), **more}
    return catalogue.create_plan(caller or ground.caller, **given)


def faults(ground: Ground, *given: Json, **more: Any) -> dict[str, tuple[object, str]]:
    """The faults of a plan that must be refused: field -> value and rule. Nothing is stored."""
    with pytest.raises(InvalidInputError) as caught:
        create(ground, *given, **more)
    assert ground.catalogue.list_plans(ground.caller, ListQuery()).items == ()
    return {one.field: (one.value, one.rule) for one in caught.value.fields}


def schedule(ground: Ground, plan: Plan) -> str:
    operation_id, trigger_id = str(uuid4()), str(uuid4())

    def insert(tx: Any) -> None:
        triggers.insert(
            tx,
            trigger_id=trigger_id,
            project_id=plan.project_id,
            name="t",
            type="time",
            properties={"format": "interval", "pattern": "3600"},
            next_run_at=None,
        )
        scheduled_operations.insert(
            tx,
            NewOperation(
                id=operation_id,
                project_id=plan.project_id,
                user_id="alice",
                name="o",
                description="",
                operation_type="protect",
                trigger_id=trigger_id,
                definition={"plan_id": plan.id, "provider_id": plan.provider_id},
                plan_id=plan.id,
                host=plan.host,
                enabled=True,
                overlap="skip",
                timeout_s=60,
                priority=0,
                retry_max_attempts=1,
                retry_delay_s=60,
            ),
        )

    ground.database.write("test", insert)
    return operation_id


def test_a_plan_is_stored_as_it_was_given_and_bound_to_its_host(ground: Ground) -> None:
    directory, database = ground.directory(), ground.sqlite()
    plan = create(
        ground,
        {**directory, "id": directory["id"] + "//"},
        database,
        name="both",
        description="two",
        parameters={"directory": {"excludes": ["*.tmp"]}, f"sqlite#{database['id']}": {}},
    )
    assert plan.resources == (directory, database)
    assert (plan.status, plan.host, plan.project_id) == ("suspended", "here", ground.project_id)
    assert ground.catalogue.get_plan(ground.caller, plan.id) == plan
    (entry,) = ground.database.read(lambda c: audit.newest(c, object_id=plan.id))
    assert (entry.action, entry.user_id, entry.request_id) == ("create", "alice", "req-1")


def test_what_lives_on_no_host_binds_to_none(ground: Ground) -> None:
    assert create(ground, {"type": "note", "id": "n1", "name": "n"}).host is None
    assert create(ground, {"type": "note", "id": "n1", "name": "n"}, ground.directory()).host == "here"


def test_what_lives_on_another_host_is_bound_to_it(ground: Ground) -> None:
    there = {"extra_info": {"host": "there"}}
    far = {"type": "directory", "id": "/only/there/", "name": "far", **there}
    plan = create(ground, far, {"type": "sqlite", "id": "/far.db", "name": "d", **there})
    assert (plan.host, plan.resources[0]["id"]) == ("there", "/only/there")
    here = create(ground, {**ground.directory(), "extra_info": {"host": "here"}})
    assert here.host == "here"
    moved = ground.catalogue.update_plan(ground.caller, here.id, {"resources": [far]})
    assert moved.host == "there"


@pytest.mark.parametrize("host", ["nowhere", "", 5, None, ["there"]])
def test_a_host_must_have_a_protection_service(ground: Ground, host: Any) -> None:
    found = faults(ground, {**ground.directory(), "extra_info": {"host": host}})
    value, rule = found["resources[0].extra_info.host"]
    assert (value, "here, there" in rule) == (host, True)


def test_resources_of_two_hosts_are_two_plans(ground: Ground) -> None:
    far = {"type": "directory", "id": "/far", "name": "far", "extra_info": {"host": "there"}}
    found = faults(ground, ground.directory(), far)
    assert "here" in found["resources[1].extra_info.host"][1]
    assert ".." in faults(ground, {**far, "id": "/a/../b"})["resources[0].id"][1]


def test_a_resource_that_cannot_be_protected_is_refused(ground: Ground, tmp_path: Path) -> None:
    good = ground.directory()
    (ground.srv / "text").write_text("some text that is no database, however long it may be")
    (ground.srv / "empty").touch()
    (ground.srv / "out").symlink_to("/etc")
    os.mkfifo(ground.srv / "pipe")
    for given, field, words in (
        ({**good, "id": str(ground.srv / "missing")}, "id", "does not exist"),
        ({**good, "id": str(ground.srv / "text")}, "id", "must be a directory"),
        ({**good, "id": "relative"}, "id", "absolute"),
        ({**good, "id": f"{ground.srv}/../srv"}, "id", ".."),
        ({**good, "id": "/etc"}, "id", "outside"),
        ({**good, "id": str(ground.srv / "out")}, "id", "symbolic link out of"),
        ({**good, "type": "moon"}, "type", "directory, note, sqlite"),
        ({**good, "colour": "red"}, "colour", "not known"),
        ({**good, "name": " "}, "name", "blank"),
        ({"type": "directory", "id": good["id"]}, "name", "needed"),
        ({**good, "type": 5}, "type", "text"),
        ({**good, "extra_info": "x"}, "extra_info", "object"),
        ({**good, "extra_info": {"depends_on": "x"}}, "extra_info.depends_on", "list"),
        ({**good, "extra_info": {"depends_on": ["x"]}}, "extra_info.depends_on", "type and an id"),
        ({"type": "sqlite", "id": str(ground.srv / "text"), "name": "d"}, "id", "no SQLite database"),
        ({"type": "sqlite", "id": str(ground.srv / "empty"), "name": "d"}, "id", "no SQLite database"),
        ({"type": "sqlite", "id": str(ground.srv / "pipe"), "name": "d"}, "id", "no file"),
        ({"type": "sqlite", "id": str(ground.srv), "name": "d"}, "id", "no file"),
        ({"type": "note", "id": "n9", "name": "d"}, "id", "no note n9"),
    ):
        found = faults(ground, ground.sqlite(), given)
        path = f"resources[1].{field}"
        assert path in found, (given, found)
        assert words in found[path][1], found


def test_every_wrong_resource_is_named_at_once(ground: Ground) -> None:
    found = faults(
        ground,
        {"type": "directory", "id": "/etc", "name": "a"},
        ground.directory(),
        {"type": "directory", "id": str(ground.srv / "no"), "name": "b"},
    )
    assert set(found) == {"resources[0].id", "resources[2].id"}
    assert found["resources[0].id"][0] == "/etc"


def test_own_places_are_refused_and_noticed(ground: Ground) -> None:
    ground.allow("admin", Path("/"))
    for path in ("/proc", "/sys", str(ground.data.path)):
        found = faults(ground, {"type": "directory", "id": path, "name": "x"})
        assert path in found["resources[0].id"][1]
    plan = create(ground, {"type": "directory", "id": str(ground.folder), "name": "all"})
    (notice, *_) = plan.resources[0]["extra_info"]["notices"]
    assert str(ground.data.path) in notice
    again = ground.catalogue.update_plan(ground.caller, plan.id, {"resources": list(plan.resources)})
    assert again.resources == plan.resources


def test_a_circle_and_a_double_are_refused_however_they_are_written(ground: Ground) -> None:
    a, b = ground.directory("a"), ground.directory("b")
    need = {"depends_on": [{"type": "directory", "id": a["id"] + "/"}]}
    back = {"depends_on": [{"type": "directory", "id": b["id"]}]}
    plan = create(ground, {**a, "id": a["id"] + "/"}, {**b, "extra_info": need})
    assert plan.resources[1]["extra_info"]["depends_on"][0]["id"] == a["id"]
    ground.catalogue.delete_plan(ground.caller, plan.id)
    found = faults(ground, {**a, "extra_info": back}, {**b, "extra_info": need})
    assert "circle" in found["resources"][1]
    found = faults(ground, a, {**a, "id": a["id"] + "/."})
    assert "resources[0]" in found["resources[1]"][1]


@pytest.mark.parametrize("given", [None, [], "text", {"a": 1}, [None], ["x"], [[]]])
def test_resources_must_be_a_list_of_objects(ground: Ground, given: Any) -> None:
    assert all(one.startswith("resources") for one in faults(ground, resources=given))


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"description": "x" * 256}, "description"),
        ({"description": 5}, "description"),
        ({"provider_id": str(uuid4())}, "provider_id"),
        ({"provider_id": "x"}, "provider_id"),
        ({"parameters": []}, ""),
        ({"parameters": "x"}, "parameters"),
        ({"parameters": {"moon": {}}}, "parameters.moon"),
        ({"parameters": {"sqlite": {}}}, "parameters.sqlite"),
        ({"parameters": {"directory#/no": {}}}, "parameters.directory#/no"),
        ({"parameters": {"directory": 5}}, "parameters.directory"),
        ({"parameters": {"directory": {"speed": 5}}}, "parameters.directory.speed"),
        ({"parameters": {"directory": {"excludes": "x"}}}, "parameters.directory.excludes"),
    ],
)
def test_other_fields_are_checked(ground: Ground, more: Json, field: str) -> None:
    if field:
        assert field in faults(ground, ground.directory(), **more)
    else:
        create(ground, ground.directory(), **more)


def test_a_provider_may_take_only_some_types(ground: Ground) -> None:
    text = f"id: {uuid4()}\nname: few\nbank: {{type: memory}}\nresource_types: [sqlite]\n"
    path = ground.data.providers / "few.yaml"
    path.write_text(text)
    path.chmod(0o600)
    few = next(one for one in ground.providers.list() if one.name == "few")
    assert "type" in "".join(faults(ground, ground.directory(), provider_id=few.id))
    assert create(ground, ground.sqlite(), provider_id=few.id).provider_id == few.id
    assert ground.catalogue.get_provider(ground.caller, few.id).resource_types == ("sqlite",)


def test_a_project_sees_only_its_own_plans(ground: Ground) -> None:
    plan = create(ground, ground.directory())
    assert "outside" in str(faults_of_stranger(ground))
    catalogue = ground.catalogue
    for call in (
        lambda: catalogue.get_plan(ground.stranger, plan.id),
        lambda: catalogue.update_plan(ground.stranger, plan.id, {"name": "mine"}),
        lambda: catalogue.delete_plan(ground.stranger, plan.id),
        lambda: catalogue.create_checkpoint(ground.stranger, provider_id=ground.provider.id, plan_id=plan.id),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert catalogue.list_plans(ground.stranger, ListQuery()).items == ()
    assert catalogue.list_plans(ground.stranger, ListQuery(all_projects=True)).items == ()
    admin = Caller(ground.other_id, "root", is_admin=True)
    assert catalogue.list_plans(admin, ListQuery(all_projects=True)).items == (plan,)
    assert catalogue.get_plan(ground.caller, plan.id) == plan


def faults_of_stranger(ground: Ground) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        create(ground, ground.directory(), caller=ground.stranger)
    return caught.value


def test_an_update_changes_what_is_given_and_checks_it_against_the_rest(ground: Ground) -> None:
    plan = create(ground, ground.directory(), parameters={"directory": {"excludes": ["x"]}})
    operation_id = schedule(ground, plan)
    ground.clock.advance(5)
    update = ground.catalogue.update_plan
    changed = update(ground.caller, plan.id, {"name": "new", "description": "d", "status": "started"})
    assert (changed.name, changed.description, changed.status) == ("new", "d", "started")
    assert changed.resources == plan.resources
    assert changed.updated_at > plan.updated_at
    with pytest.raises(InvalidInputError) as caught:
        update(ground.caller, plan.id, {"resources": [ground.sqlite()]})
    assert caught.value.fields[0].field == "parameters.directory"
    note = {"type": "note", "id": "n1", "name": "n"}
    moved = update(ground.caller, plan.id, {"resources": [note], "parameters": {}})
    assert (moved.resources, moved.host, moved.parameters) == ((note,), None, {})
    operation = ground.database.read(
        lambda c: c.execute(
            tables.scheduled_operations.select().where(tables.scheduled_operations.c.id == operation_id)
        ).one()
    )
    assert operation.host is None, "its runs still wait for a host that the plan no longer needs"
    for bad, field in (
        ({}, "plan"),
        ({"provider_id": plan.provider_id}, "provider_id"),
        ({"colour": 1, "name": "x"}, "colour"),
        ({"status": "running"}, "status"),
        ({"name": " "}, "name"),
        ({"resources": []}, "resources"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            update(ground.caller, plan.id, bad)
        assert caught.value.fields[0].field == field
    assert ground.catalogue.get_plan(ground.caller, plan.id) == moved


def test_of_two_updates_at_once_the_second_is_told(ground: Ground) -> None:
    plan = create(ground, ground.directory())
    asked: list[Any] = ground.sources.protectables.get("note").asked  # type: ignore[attr-defined]  # its own

    def meanwhile() -> None:
        asked.clear()
        ground.clock.advance(1)
        ground.catalogue.update_plan(ground.caller, plan.id, {"name": "first"})

    asked.append(meanwhile)
    note = {"type": "note", "id": "n1", "name": "n"}
    with pytest.raises(ConflictError, match="meanwhile"):
        ground.catalogue.update_plan(ground.caller, plan.id, {"resources": [note]})
    found = ground.catalogue.get_plan(ground.caller, plan.id)
    assert (found.name, found.resources) == ("first", plan.resources)


def test_a_plan_in_use_is_not_deleted(ground: Ground) -> None:
    plan = create(ground, ground.directory())
    operation_id = schedule(ground, plan)
    with pytest.raises(InUseError, match=operation_id):
        ground.catalogue.delete_plan(ground.caller, plan.id)
    ground.database.write("test", lambda tx: scheduled_operations.delete(tx, operation_id))
    run_id = ground.database.write(
        "test",
        lambda tx: runs.insert(
            tx,
            NewRun(
                project_id=plan.project_id,
                user_id="alice",
                kind="manual",
                subject_type="plan",
                subject_id=plan.id,
                occurrence="x",
                operation_type="protect",
                definition={},
                expected_at=tx.now,
                plan_id=plan.id,
            ),
        ),
    )
    with pytest.raises(InUseError, match=run_id):
        ground.catalogue.delete_plan(ground.caller, plan.id)


def test_a_deleted_plan_is_gone_but_for_its_checkpoints(ground: Ground) -> None:
    plan = create(ground, ground.directory())
    ground.catalogue.delete_plan(ground.caller, plan.id)
    for call in (
        lambda: ground.catalogue.get_plan(ground.caller, plan.id),
        lambda: ground.catalogue.delete_plan(ground.caller, plan.id),
        lambda: ground.catalogue.update_plan(ground.caller, plan.id, {"name": "x"}),
        lambda: ground.catalogue.create_checkpoint(
            ground.caller, provider_id=ground.provider.id, plan_id=plan.id
        ),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert ground.catalogue.list_plans(ground.caller, ListQuery()).items == ()
    kept = ground.database.read(lambda c: plans.get_even_deleted(c, plan.id, project_id=None))
    assert kept.resources == plan.resources
    actions = [one.action for one in ground.database.read(lambda c: audit.newest(c, object_id=plan.id))]
    assert actions == ["delete", "create"]


def test_plans_are_listed_in_pages_by_filter(ground: Ground) -> None:
    made = []
    for number in range(5):
        ground.clock.advance(1)
        made.append(create(ground, {"type": "note", "id": "n1", "name": "n"}, name=f"p{number % 2}"))
    first = ground.catalogue.list_plans(ground.caller, ListQuery(limit=3))
    second = ground.catalogue.list_plans(ground.caller, ListQuery(limit=3, marker=first.next_marker))
    assert [*first.items, *second.items] == made[::-1]
    assert second.next_marker is None
    named = ground.catalogue.list_plans(ground.caller, ListQuery(filters={"name": "p1"}))
    assert [one.name for one in named.items] == ["p1", "p1"]
    with pytest.raises(InvalidInputError):
        ground.catalogue.list_plans(ground.caller, ListQuery(filters={"colour": "red"}))
