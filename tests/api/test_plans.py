# SPDX-License-Identifier: Apache-2.0
"""/plans"""

from __future__ import annotations

import uuid

import pytest

from tests.api.ground import Ground


def test_a_plan_is_made_shown_changed_and_deleted(ground: Ground) -> None:
    plan = ground.plan()
    assert plan["status"] == "suspended"
    assert "extra_info" not in plan["resources"][0]
    path = f"/plans/{plan['id']}"
    assert ground.call("GET", path)["plan"] == plan
    dashless = f"/plans/{plan['id'].replace('-', '').upper()}"
    assert ground.call("GET", dashless)["plan"] == plan
    changed = ground.call("PUT", path, {"plan": {"name": "other", "description": None}})["plan"]
    assert (changed["name"], changed["resources"]) == ("other", plan["resources"])
    answer = ground.ask("DELETE", path)
    assert (answer.status_code, answer.content) == (200, b"")
    ground.refused(404, "GET", path)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": None}, "name"),
        ({"provider_id": "default"}, "provider_id"),
        ({"provider_id": str(uuid.uuid4())}, "provider_id"),
        ({"resources": []}, "resources"),
        ({"resources": "all"}, "resources"),
        ({"resources": [{"type": "directory", "id": "/nowhere"}]}, "resources.0.name"),
        ({"resources": [{"type": "moon", "id": "1", "name": "m"}]}, "resources[0].type"),
        ({"colour": "red"}, "colour"),
        ({"parameters": []}, "parameters"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(
    ground: Ground, wrong: dict[str, object], field: str
) -> None:
    body = {"name": "p", "provider_id": ground.provider_id, "resources": [ground.below.directory()]}
    fault = ground.refused(400, "POST", "/plans", {"plan": {**body, **wrong}})
    assert field in [one["field"] for one in fault["errors"]], fault
    assert ground.call("GET", "/plans") == {"plans": []}


def test_a_change_of_nothing_and_of_what_cannot_change_is_refused(ground: Ground) -> None:
    path = f"/plans/{ground.plan()['id']}"
    ground.refused(400, "PUT", path, {"plan": {}})
    fault = ground.refused(400, "PUT", path, {"plan": {"provider_id": str(uuid.uuid4())}})
    assert fault["errors"][0]["field"] == "provider_id"
    ground.refused(404, "PUT", f"/plans/{uuid.uuid4()}", {"plan": {"name": "x"}})
    ground.refused(400, "GET", "/plans/no-uuid")


def test_a_plan_in_use_stays(ground: Ground) -> None:
    operation = ground.operation()
    plan_id = operation["operation_definition"]["plan_id"]
    assert operation["id"] in ground.refused(424, "DELETE", f"/plans/{plan_id}")["message"]


def test_pages_lead_to_each_other_and_end(ground: Ground) -> None:
    made = [ground.plan(name)["id"] for name in "abcde"]
    seen: list[str] = []
    url = f"/v1/{ground.project_id}/plans?limit=2&sort=name:asc"
    while url:
        page = ground.http.get(url, headers={"X-Auth-Token": ground.token[next(iter(ground.token))]}).json()
        seen += [one["id"] for one in page["plans"]]
        url = page["plans_links"][0]["href"] if "plans_links" in page else ""
    assert seen == made
    newest = ground.call("GET", "/plans")["plans"]
    assert [one["name"] for one in newest] == list("edcba")
    assert [one["name"] for one in ground.call("GET", "/plans", name="c")["plans"]] == ["c"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"limit": "0"}, 400),
        ({"limit": "-1"}, 400),
        ({"limit": "many"}, 400),
        ({"limit": "9" * 5000}, 400),
        ({"offset": "1"}, 400),
        ({"sort": "colour"}, 400),
        ({"sort": "name:up"}, 400),
        ({"sort": "name", "sort_key": "name"}, 400),
        ({"colour": "red"}, 400),
        ({"marker": str(uuid.uuid4())}, 404),
        ({"marker": "nothing"}, 404),
    ],
)
def test_a_list_says_what_it_cannot_do(ground: Ground, query: dict[str, str], status: int) -> None:
    ground.refused(status, "GET", "/plans", **query)


def test_the_same_key_makes_one_plan_and_another_request_is_refused(ground: Ground) -> None:
    body = {"name": "p", "provider_id": ground.provider_id, "resources": [ground.below.directory()]}
    key = {"Idempotency-Key": "k1"}
    first = ground.ask("POST", "/plans", {"plan": body}, headers=key)
    again = ground.ask("POST", "/plans", {"plan": body}, headers=key)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(ground.call("GET", "/plans")["plans"]) == 1
    ground.refused(409, "POST", "/plans", {"plan": {**body, "name": "q"}}, headers=key)


def test_a_refused_request_frees_its_key(ground: Ground) -> None:
    good = {"name": "p", "provider_id": ground.provider_id, "resources": [ground.below.directory()]}
    bad = {**good, "provider_id": str(uuid.uuid4())}
    key = {"Idempotency-Key": "k1"}
    ground.refused(400, "POST", "/plans", {"plan": bad}, headers=key)
    ground.call("POST", "/plans", {"plan": good}, headers=key)
    ground.refused(400, "POST", "/plans", {"plan": good}, headers={"Idempotency-Key": "k" * 256})
