# SPDX-License-Identifier: Apache-2.0
"""A restore is stored only when it may be written where it is to go (I11)."""

from __future__ import annotations

from uuid import uuid4

import pytest

from seawall.core.errors import InUseError, InvalidInputError, NotFoundError, StateError
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint, Json, Restore
from seawall.db import audit, run_rows
from tests.catalogue.ground import Ground
from tests.catalogue.test_checkpoints import ask, finish, runs
from tests.catalogue.test_plans import create as create_plan


@pytest.fixture
def good(ground: Ground) -> Checkpoint:
    return finish(ground, ask(ground, create_plan(ground, ground.directory(), ground.sqlite())))


def restore(
    ground: Ground, one: Checkpoint, target: str | None = None, parameters: Json | None = None
) -> Restore:
    return ground.catalogue.create_restore(
        ground.caller,
        provider_id=one.provider_id,
        checkpoint_id=one.id,
        restore_target=target,
        parameters=parameters,
    )


def refused(ground: Ground, one: Checkpoint, target: str | None) -> str:
    with pytest.raises(InvalidInputError) as caught:
        restore(ground, one, target)
    assert {fault.field for fault in caught.value.fields} == {"restore_target"}
    assert ground.catalogue.list_restores(ground.caller, ListQuery()).items == ()
    return str(caught.value)


def test_a_restore_comes_with_its_run(ground: Ground, good: Checkpoint) -> None:
    woken = ground.wakeup.subscribe()
    made = restore(ground, good, f"{ground.srv}//new/", {"directory": {"overwrite": "never"}})
    assert woken.is_set()
    assert (made.status, made.restore_target) == ("in_progress", str(ground.srv / "new"))
    assert made.parameters == {"directory": {"overwrite": "never"}}
    run = next(one for one in runs(ground) if one.kind == "restore")
    assert (run.id, run.definition, run.host) == (made.run_id, {"restore_id": made.id}, "here")
    assert (run.subject_type, run.subject_id) == ("restore", made.id)
    assert not (ground.srv / "new").exists(), "asking writes nothing"
    assert ground.catalogue.get_restore(ground.caller, made.id) == made
    assert ground.catalogue.list_restores(ground.caller, ListQuery()).items == (made,)
    (entry,) = ground.database.read(lambda c: audit.newest(c, object_id=made.id))
    assert (entry.action, entry.details["checkpoint_id"]) == ("create", good.id)


def test_what_is_to_be_restored_is_not_deleted_before(ground: Ground, good: Checkpoint) -> None:
    made = restore(ground, good)
    with pytest.raises(InUseError, match=str(made.run_id)):
        ground.catalogue.delete_checkpoint(ground.caller, good.provider_id, good.id)
    ground.clock.advance(3601)
    ground.catalogue.delete_checkpoint(ground.caller, good.provider_id, good.id)
    with pytest.raises(StateError, match="deleting"):
        restore(ground, good)


def test_a_restore_in_place_goes_where_its_plan_goes(ground: Ground, good: Checkpoint) -> None:
    assert restore(ground, good).restore_target is None
    note = finish(ground, ask(ground, create_plan(ground, {"type": "note", "id": "n1", "name": "n"})))
    restore(ground, note)
    hosts = {one.definition["restore_id"]: one.host for one in runs(ground) if one.kind == "restore"}
    assert sorted(map(str, hosts.values())) == ["None", "here"]


def test_a_restore_on_another_host_goes_there(ground: Ground) -> None:
    far = {"type": "directory", "id": "/far", "name": "far", "extra_info": {"host": "there"}}
    one = finish(ground, ask(ground, create_plan(ground, far)))
    restore(ground, one)
    assert restore(ground, one, "/not/here/").restore_target == "/not/here"
    assert {run.host for run in runs(ground)} == {"there"}
    with pytest.raises(InvalidInputError) as caught:
        restore(ground, one, "not/absolute")
    assert caught.value.fields[0].field == "restore_target"


def test_a_target_that_may_not_be_written_is_refused(ground: Ground, good: Checkpoint) -> None:
    (ground.srv / "file").touch()
    (ground.srv / "out").symlink_to("/etc")
    for target, words in (
        ("relative", "absolute"),
        ("/etc/new", "outside"),
        (f"{ground.srv}/../other", ".."),
        (str(ground.srv / "out"), "symbolic link"),
        (str(ground.srv / "out" / "new"), "symbolic link"),
        (str(ground.srv / "file"), "must be a folder"),
        (str(ground.srv / "file" / "below"), "no directory"),
        (str(ground.srv / ("n" * 256)), "bytes"),
    ):
        assert words in refused(ground, good, target), target
    ground.allow("admin", ground.folder)
    assert "data folder" in refused(ground, good, str(ground.data.path / "x"))
    assert "data folder" in refused(ground, good, str(ground.data.path))


def test_in_place_is_refused_when_the_project_may_no_longer_write_there(
    ground: Ground, good: Checkpoint
) -> None:
    ground.allow("admin", ground.folder / "elsewhere")
    words = refused(ground, good, None)
    assert str(ground.srv / "files") in words
    assert str(ground.srv / "app.db") in words


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"moon": {}}, "parameters.moon"),
        ({"directory#/no": {}}, "parameters.directory#/no"),
        ({"directory": {"overwrite": "perhaps"}}, "parameters.directory.overwrite"),
        ({"sqlite": {"speed": 1}}, "parameters.sqlite.speed"),
        ({"sqlite": None}, "parameters.sqlite"),
    ],
)
def test_parameters_are_checked_by_the_types_plugin(
    ground: Ground, good: Checkpoint, parameters: Json, field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        restore(ground, good, str(ground.srv), parameters)
    assert caught.value.fields[0].field == field


def test_only_a_good_checkpoint_is_restored(ground: Ground) -> None:
    one = ask(ground, create_plan(ground, ground.directory()))
    with pytest.raises(StateError, match="protecting"):
        restore(ground, one)
    finish(ground, one, "error")
    with pytest.raises(StateError, match="the source was gone"):
        restore(ground, one)
    with pytest.raises(NotFoundError):
        ground.catalogue.create_restore(
            ground.caller, provider_id=one.provider_id, checkpoint_id=str(uuid4())
        )


def test_a_checkpoint_of_a_deleted_plan_is_restored(ground: Ground) -> None:
    plan = create_plan(ground, ground.directory())
    one = finish(ground, ask(ground, plan))
    (run,) = runs(ground)
    ground.database.write("test", lambda tx: run_rows.cancel(tx, run.id, project_id=None))
    ground.catalogue.delete_plan(ground.caller, plan.id)
    restore(ground, one)
    assert runs(ground)[0].host == "here"


def test_a_project_sees_only_its_own_restores(ground: Ground, good: Checkpoint) -> None:
    made = restore(ground, good)
    for restore_id in (made.id, "x", str(uuid4())):
        with pytest.raises(NotFoundError):
            ground.catalogue.get_restore(ground.stranger, restore_id)
    assert ground.catalogue.list_restores(ground.stranger, ListQuery(all_projects=True)).items == ()
    filtered = ground.catalogue.list_restores(ground.caller, ListQuery(filters={"status": "success"}))
    assert filtered.items == ()
