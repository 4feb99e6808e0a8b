# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that is asked for is its row, its run and its audit row, or none of them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from seawall.core.caller import Caller
from seawall.core.errors import ConflictError, InUseError, InvalidInputError, NotFoundError, StateError
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint, Plan, Run
from seawall.db import audit, checkpoints, run_rows
from seawall.db import repositories as repository_rows
from seawall.sdk.failpoints import FailpointError, arm
from tests.catalogue.ground import Ground
from tests.catalogue.test_plans import create as create_plan


def ask(ground: Ground, plan: Plan, *, key: str | None = None) -> Checkpoint:
    return ground.catalogue.create_checkpoint(
        ground.caller, provider_id=plan.provider_id, plan_id=plan.id, idempotency_key=key
    )


def runs(ground: Ground) -> list[Run]:
    return list(ground.database.read(lambda c: run_rows.page(c, ListQuery(), project_id=None)).items)


def finish(ground: Ground, one: Checkpoint, status: str = "available") -> Checkpoint:
    """As if its run had made it: it has a snapshot and the status."""

    def end(tx: Any) -> None:
        if status == "error":
            checkpoints.fail(tx, one.id, "the source was gone")
        else:
            checkpoints.finish(
                tx,
                one.id,
                status=status,
                snapshot_id="ab" * 32,
                resources=one.resources,
                items=1,
                read_bytes=1,
                added_bytes=1,
                reason=None,
                extra_info={},
            )

    ground.database.write("test", end)
    return ground.catalogue.get_checkpoint(ground.caller, one.provider_id, one.id)


def lose(ground: Ground, one: Checkpoint) -> Checkpoint:
    """In ``error`` although it has a snapshot."""
    ground.database.write("test", lambda tx: checkpoints.lose(tx, one.id, "its check failed"))
    return ground.catalogue.get_checkpoint(ground.caller, one.provider_id, one.id)


@pytest.fixture
def plan(ground: Ground) -> Plan:
    return create_plan(ground, ground.directory())


def test_a_checkpoint_comes_with_its_run_and_its_repository(ground: Ground, plan: Plan) -> None:
    woken = ground.wakeup.subscribe()
    made = ground.catalogue.create_checkpoint(
        ground.caller, provider_id=plan.provider_id, plan_id=plan.id, extra_info={"why": "test"}
    )
    assert woken.is_set()
    assert (made.status, made.plan_id, made.resources) == ("protecting", plan.id, plan.resources)
    assert made.extra_info == {"why": "test", "created_by": "manual"}
    (run,) = runs(ground)
    assert (run.id, run.kind, run.operation_type, run.state) == (made.run_id, "manual", "protect", "queued")
    assert (run.subject_id, run.host, run.user_id) == (plan.id, "here", "alice")
    assert run.definition == {"plan_id": plan.id, "provider_id": plan.provider_id, "checkpoint_id": made.id}
    repository = ground.database.read(
        lambda c: repository_rows.get(c, made.repository_id, project_id=ground.project_id)
    )
    assert (repository.provider_id, repository.group) == (plan.provider_id, "default")
    assert ask(ground, plan).repository_id == repository.id
    (entry,) = ground.database.read(lambda c: audit.newest(c, object_id=made.id))
    assert (entry.action, entry.details["run_id"]) == ("create", run.id)


def test_the_same_key_again_answers_the_same_checkpoint(ground: Ground, plan: Plan) -> None:
    first = ask(ground, plan, key="once")
    assert ask(ground, plan, key="once") == first
    finish(ground, first)
    assert ask(ground, plan, key="once").status == "available"
    assert ask(ground, plan, key="twice").id != first.id
    other = create_plan(ground, ground.directory("b"))
    assert ask(ground, other, key="once").id != first.id
    assert len(runs(ground)) == 3
    for key in ("", "x" * 256):
        with pytest.raises(InvalidInputError):
            ask(ground, plan, key=key)


def test_a_cut_before_the_commit_leaves_nothing(ground: Ground, plan: Plan) -> None:
    arm("catalogue.create_checkpoint.before_commit=raise")
    with pytest.raises(FailpointError):
        ask(ground, plan, key="k")
    assert runs(ground) == []
    assert ground.database.read(repository_rows.listed) == []
    assert ground.catalogue.list_checkpoints(ground.caller, plan.provider_id, ListQuery()).items == ()
    assert ask(ground, plan, key="k").status == "protecting"


def test_the_provider_must_be_the_plans(ground: Ground, plan: Plan) -> None:
    path = ground.data.providers / "more.yaml"
    path.write_text(f"id: {uuid4()}\nname: more\nbank: {{type: memory}}\n")
    path.chmod(0o600)
    more = next(one for one in ground.providers.list() if one.name == "more")
    with pytest.raises(InvalidInputError) as caught:
        ground.catalogue.create_checkpoint(ground.caller, provider_id=more.id, plan_id=plan.id)
    assert caught.value.fields[0].field == "provider_id"
    for provider_id, plan_id in ((str(uuid4()), plan.id), ("x", plan.id), (plan.provider_id, str(uuid4()))):
        with pytest.raises(NotFoundError):
            ground.catalogue.create_checkpoint(ground.caller, provider_id=provider_id, plan_id=plan_id)


def test_checkpoints_are_listed_by_provider_and_filter(ground: Ground, plan: Plan) -> None:
    made = []
    for _ in range(3):
        ground.clock.advance(86_400)
        made.append(ask(ground, plan))
    listed = ground.catalogue.list_checkpoints
    page = listed(ground.caller, plan.provider_id, ListQuery(limit=2))
    assert [one.id for one in page.items] == [made[2].id, made[1].id]
    rest = listed(ground.caller, plan.provider_id, ListQuery(limit=2, marker=page.next_marker))
    assert [one.id for one in rest.items] == [made[0].id]
    day = made[1].created_at.date().isoformat()
    found = listed(ground.caller, plan.provider_id, ListQuery(filters={"start_date": day, "end_date": day}))
    assert [one.id for one in found.items] == [made[1].id]
    assert listed(ground.caller, plan.provider_id, ListQuery(filters={"plan_id": str(uuid4())})).items == ()
    with pytest.raises(NotFoundError):
        listed(ground.caller, str(uuid4()), ListQuery())
    with pytest.raises(NotFoundError):
        listed(ground.caller, "x", ListQuery())
    (ground.data.providers / "default.yaml").unlink()
    assert len(listed(ground.caller, plan.provider_id, ListQuery()).items) == 3, "hidden with its provider"


def test_a_project_sees_and_touches_only_its_own(ground: Ground, plan: Plan) -> None:
    one = finish(ground, ask(ground, plan))
    catalogue, mallory = ground.catalogue, ground.stranger
    for call in (
        lambda: catalogue.get_checkpoint(mallory, one.provider_id, one.id),
        lambda: catalogue.delete_checkpoint(mallory, one.provider_id, one.id),
        lambda: catalogue.reset_checkpoint(mallory, one.provider_id, one.id, "error"),
        lambda: catalogue.pin_checkpoint(mallory, one.provider_id, one.id),
        lambda: catalogue.unpin_checkpoint(mallory, one.provider_id, one.id),
        lambda: catalogue.create_restore(mallory, provider_id=one.provider_id, checkpoint_id=one.id),
        lambda: catalogue.get_checkpoint(ground.caller, str(uuid4()), one.id),
        lambda: catalogue.get_checkpoint(ground.caller, one.provider_id, "x"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert catalogue.list_checkpoints(mallory, one.provider_id, ListQuery(all_projects=True)).items == ()
    admin = Caller(ground.other_id, "root", is_admin=True)
    assert catalogue.list_checkpoints(admin, one.provider_id, ListQuery(all_projects=True)).items == (one,)
    assert catalogue.get_checkpoint(ground.caller, one.provider_id, one.id) == one


def test_a_delete_is_a_state_and_a_run(ground: Ground, plan: Plan) -> None:
    for status in ("available", "available_with_warnings", "error"):
        one = finish(ground, ask(ground, plan), status)
        run = ground.catalogue.delete_checkpoint(ground.caller, one.provider_id, one.id)
        assert (run.kind, run.operation_type, run.definition) == (
            "delete",
            "delete",
            {"checkpoint_id": one.id},
        )
        assert run.host == plan.host
        assert ground.catalogue.get_checkpoint(ground.caller, one.provider_id, one.id).status == "deleting"
        again = ground.catalogue.delete_checkpoint(ground.caller, one.provider_id, one.id)
        assert again.id == run.id, "two runs delete one checkpoint"


def test_a_delete_that_failed_may_be_asked_for_again(ground: Ground, plan: Plan) -> None:
    one = finish(ground, ask(ground, plan))
    first = ground.catalogue.delete_checkpoint(ground.caller, one.provider_id, one.id)
    ground.database.write("test", lambda tx: run_rows.cancel(tx, first.id, project_id=None))
    ground.database.write("test", lambda tx: checkpoints.fail_delete(tx, one.id, "the bank was full"))
    second = ground.catalogue.delete_checkpoint(ground.caller, one.provider_id, one.id)
    assert (second.state, second.id != first.id) == ("queued", True)


def test_what_is_made_pinned_read_or_gone_is_not_deleted(ground: Ground, plan: Plan) -> None:
    one = ask(ground, plan)
    delete = ground.catalogue.delete_checkpoint
    with pytest.raises(StateError, match=str(one.run_id)):
        delete(ground.caller, one.provider_id, one.id)
    finish(ground, one)
    ground.catalogue.pin_checkpoint(ground.caller, one.provider_id, one.id)
    with pytest.raises(ConflictError, match="pinned"):
        delete(ground.caller, one.provider_id, one.id)
    ground.catalogue.unpin_checkpoint(ground.caller, one.provider_id, one.id)
    until = ground.clock.now().replace(year=2030)
    ground.database.write("test", lambda tx: checkpoints.acquire_reader(tx, one.id, "restore 7", until))
    with pytest.raises(InUseError, match="restore 7"):
        delete(ground.caller, one.provider_id, one.id)
    assert ground.catalogue.get_checkpoint(ground.caller, one.provider_id, one.id).status == "available"
    ground.clock.jump(10 * 365 * 86_400)
    delete(ground.caller, one.provider_id, one.id)
    ground.database.write("test", lambda tx: checkpoints.end_delete(tx, one.id))
    with pytest.raises(StateError, match="deleted already"):
        delete(ground.caller, one.provider_id, one.id)
    assert ground.catalogue.get_checkpoint(ground.caller, one.provider_id, one.id).status == "deleted"
    assert ground.catalogue.list_checkpoints(ground.caller, one.provider_id, ListQuery()).items == ()


def test_a_pin_is_kept_and_audited_once(ground: Ground, plan: Plan) -> None:
    one = finish(ground, ask(ground, plan))
    for _ in range(2):
        assert ground.catalogue.pin_checkpoint(ground.caller, one.provider_id, one.id).pinned
    assert not ground.catalogue.unpin_checkpoint(ground.caller, one.provider_id, one.id).pinned
    entries = ground.database.read(lambda c: audit.newest(c, object_id=one.id))
    assert [entry.action for entry in entries] == ["unpin", "pin", "create"]
    ground.catalogue.delete_checkpoint(ground.caller, one.provider_id, one.id)
    with pytest.raises(StateError, match="deleting"):
        ground.catalogue.pin_checkpoint(ground.caller, one.provider_id, one.id)


def test_a_reset_to_available_needs_a_check_that_passes(ground: Ground, plan: Plan) -> None:
    one = lose(ground, finish(ground, ask(ground, plan)))
    assert one.status == "error"
    ground.structure_faults[:] = [f"pack {number} is missing" for number in range(7)]
    with pytest.raises(StateError, match=r"pack 0 is missing.*and 2 more"):
        ground.catalogue.reset_checkpoint(ground.caller, one.provider_id, one.id, "available")
    assert ground.catalogue.get_checkpoint(ground.caller, one.provider_id, one.id).status == "error"
    ground.structure_faults.clear()
    mended = ground.catalogue.reset_checkpoint(ground.caller, one.provider_id, one.id, "available")
    assert (mended.status, mended.reason) == ("available", None)
    again = ground.catalogue.reset_checkpoint(ground.caller, one.provider_id, one.id, "available")
    assert again == mended
    broken = ground.catalogue.reset_checkpoint(ground.caller, one.provider_id, one.id, "error")
    assert (broken.status, "alice" in str(broken.reason)) == ("error", True)
    actions = [entry.action for entry in ground.database.read(lambda c: audit.newest(c, object_id=one.id))]
    assert actions == ["reset", "reset", "create"]


def test_a_reset_goes_only_where_the_states_allow(ground: Ground, plan: Plan) -> None:
    reset = ground.catalogue.reset_checkpoint
    making = ask(ground, plan)
    for status in ("available", "error"):
        with pytest.raises(StateError, match="protecting"):
            reset(ground.caller, making.provider_id, making.id, status)
    failed = finish(ground, making, "error")
    with pytest.raises(StateError, match="no snapshot"):
        reset(ground.caller, failed.provider_id, failed.id, "available")
    warned = finish(ground, ask(ground, plan), "available_with_warnings")
    assert (
        reset(ground.caller, warned.provider_id, warned.id, "available").status == "available_with_warnings"
    )
    for status in ("deleted", "protecting", "", "AVAILABLE"):
        with pytest.raises(InvalidInputError) as caught:
            reset(ground.caller, warned.provider_id, warned.id, status)
        assert caught.value.fields[0].field == "state"
