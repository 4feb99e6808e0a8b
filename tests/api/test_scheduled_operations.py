# SPDX-License-Identifier: Apache-2.0
"""/scheduled_operations and /operation_types"""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from seawall.core.caller import Role
from tests.api.ground import Ground


def test_an_operation_is_made_switched_off_and_deleted(ground: Ground) -> None:
    made = ground.operation()
    path = f"/scheduled_operations/{made['id']}"
    assert made["enabled"] is True
    changed = ground.call("PUT", path, {"scheduled_operation": {"enabled": False, "name": "off"}})
    assert (changed["scheduled_operation"]["enabled"], changed["scheduled_operation"]["name"]) == (
        False,
        "off",
    )
    assert ground.call("GET", path) == changed
    assert ground.call("GET", "/scheduled_operations")["operations"] == [changed["scheduled_operation"]]
    assert ground.ask("DELETE", path).content == b""
    ground.refused(404, "GET", path)


def test_a_definition_may_be_karbor_s_text(ground: Ground) -> None:
    body = ground.operation_body(operation_type="retention_protect")
    wanted = body["scheduled_operation"]["operation_definition"]
    text = f"plan_id={wanted['plan_id']},provider_id={wanted['provider_id']},max_backups=3"
    body["scheduled_operation"]["operation_definition"] = text
    made = ground.call("POST", "/scheduled_operations", body)["scheduled_operation"]
    assert made["operation_definition"] == {**wanted, "max_backups": "3"}
    body["scheduled_operation"]["operation_definition"] = "plan_id"
    ground.refused(400, "POST", "/scheduled_operations", body)


@pytest.mark.parametrize(
    ("wrong", "status", "field"),
    [
        ({"operation_type": "moon"}, 400, "operation_type"),
        ({"operation_type": "restore"}, 400, "operation_type"),
        ({"trigger_id": "t"}, 400, "trigger_id"),
        ({"trigger_id": str(uuid.uuid4())}, 404, None),
        ({"operation_definition": {}}, 400, "operation_definition.plan_id"),
        ({"overlap": "maybe"}, 400, "overlap"),
        ({"priority": 2**40}, 400, "priority"),
        ({"timeout_s": 0}, 400, "timeout_s"),
        ({"retry": {"max_attempts": 0}}, 400, "retry.max_attempts"),
        ({"enabled": "yes"}, 400, "enabled"),
        ({"colour": "red"}, 400, "colour"),
    ],
)
def test_a_wrong_field_is_named(
    ground: Ground, wrong: dict[str, object], status: int, field: str | None
) -> None:
    body = ground.operation_body()
    body["scheduled_operation"] |= wrong
    fault = ground.refused(status, "POST", "/scheduled_operations", body)
    assert field is None or field in [one["field"] for one in fault["errors"]], fault
    assert ground.call("GET", "/scheduled_operations") == {"operations": []}


def test_a_change_of_nothing_or_of_what_is_fixed_is_refused(ground: Ground) -> None:
    path = f"/scheduled_operations/{ground.operation()['id']}"
    ground.refused(400, "PUT", path, {"scheduled_operation": {}})
    other = ground.trigger("other")["id"]
    fault = ground.refused(400, "PUT", path, {"scheduled_operation": {"trigger_id": other}})
    assert fault["errors"][0]["field"] == "trigger_id"


def test_the_same_key_makes_one_operation(ground: Ground) -> None:
    body, key = ground.operation_body(), {"Idempotency-Key": "once"}
    first = ground.call("POST", "/scheduled_operations", body, headers=key)
    assert ground.call("POST", "/scheduled_operations", body, headers=key) == first
    assert len(ground.call("GET", "/scheduled_operations")["operations"]) == 1


def test_operations_are_filtered_and_paged_with_karbor_s_keys(ground: Ground) -> None:
    first, second = ground.operation("a"), ground.operation("b")
    page = ground.call("GET", "/scheduled_operations", limit=1)
    assert page["operations"] == [second]
    assert f"marker={second['id']}" in page["operations_links"][0]["href"]
    found = ground.call("GET", "/scheduled_operations", trigger_id=first["trigger_id"])["operations"]
    assert found == [first]


def test_operation_types_come_with_their_schemas(ground: Ground) -> None:
    types = ground.call("GET", "/operation_types")["operation_types"]
    assert {"protect", "retention_protect", "retention"} <= {one["operation_type"] for one in types}
    assert all(one["definition_schema"]["type"] == "object" and one["source"] for one in types)


def test_an_operation_is_run_now_and_once_for_each_key(ground: Ground) -> None:
    operation = ground.operation()
    path, key = f"/scheduled_operations/{operation['id']}/run", {"Idempotency-Key": "once"}
    first = ground.call("POST", path, headers=key)["run"]
    assert (first["kind"], first["state"], first["definition"]) == (
        "manual", "queued", operation["operation_definition"],
    )  # fmt: skip
    assert ground.call("POST", path, headers=key)["run"]["id"] == first["id"]
    assert ground.call("POST", path)["run"]["id"] != first["id"]
    ground.refused(403, "POST", path, role=Role.VIEWER)
    ground.refused(404, "POST", f"/scheduled_operations/{uuid.uuid4()}/run")


def test_a_past_range_is_made_up_for_after_a_dry_run(ground: Ground) -> None:
    operation = ground.operation()
    path = f"/scheduled_operations/{operation['id']}/backfill"
    ground.clock.advance(4 * 3600)
    now = ground.clock.now()
    body = {"start": (now - timedelta(hours=3)).isoformat(), "end": now.isoformat()}
    listed = ground.call("POST", path, {**body, "dry_run": True})["backfill"]
    assert listed["id"] is None
    assert len(listed["times"]) in (3, 4)
    assert ground.call("GET", "/runs", kind="backfill")["runs"] == []
    made = ground.call("POST", path, body)["backfill"]
    assert made["times"] == listed["times"]
    found = ground.call("GET", "/runs", kind="backfill")["runs"]
    assert {one["occurrence"].partition("/")[0] for one in found} == {made["id"]}
    assert sorted(one["expected_at"] for one in found) == made["times"]
    assert made["excluded"] == listed["excluded"] == []


def test_a_backfill_says_what_the_exclusions_leave_out(ground: Ground) -> None:
    now = ground.clock.now()
    begin = (now + timedelta(hours=1)).strftime("DTSTART:%Y%m%dT%H%M%SZ")
    quiet = {"name": "quiet", "calendar": f"{begin}\nDURATION:PT2H"}
    trigger = ground.trigger(exclusions=[quiet], start_time=now.strftime("%Y-%m-%d %H:%M:%S"))
    operation = ground.operation(trigger_id=trigger["id"])
    ground.clock.advance(4 * 3600)
    span = {"start": (now + timedelta(minutes=1)).isoformat(), "end": ground.clock.now().isoformat()}
    path = f"/scheduled_operations/{operation['id']}/backfill"
    made = ground.call("POST", path, span)["backfill"]
    assert len(made["times"]) == 2
    assert [one["reason"] for one in made["excluded"]] == ["excluded by quiet"] * 2
    assert made["excluded"][0]["at"] < made["times"][0]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "2100-01-01T00:00:00Z"}, "end"),
        ({"start": "2026-01-01T00:00:00"}, "start"),
        ({"start": "0001-01-01T00:00:00+00:01"}, "start"),
        ({"start": "0001-01-01T00:00:00Z"}, "start"),
        ({"end": "9999-12-31T23:59:59-00:01"}, "end"),
        ({"start": 1767225600}, "start"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"more": 1}, "more"),
    ],
)
def test_a_wrong_range_is_named(ground: Ground, wrong: dict[str, object], field: str) -> None:
    path = f"/scheduled_operations/{ground.operation()['id']}/backfill"
    now = ground.clock.now().isoformat()
    fault = ground.refused(400, "POST", path, {"start": now, "end": now, **wrong})
    assert field in [one["field"] for one in fault["errors"]], fault
