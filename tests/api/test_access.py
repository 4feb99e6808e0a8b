# SPDX-License-Identifier: Apache-2.0
"""Who gets in, and who may do what."""

from __future__ import annotations

import uuid

import pytest

from seawall.api import policy
from seawall.core.caller import Role
from tests.api.ground import Ground, content_of


def test_both_headers_let_a_token_in(ground: Ground) -> None:
    path = f"/v1/{ground.project_id}/plans"
    for headers in (
        {"X-Auth-Token": ground.token[Role.VIEWER]},
        {"Authorization": f"Bearer {ground.token[Role.VIEWER]}"},
    ):
        assert ground.http.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Auth-Token": "swl_unknown"}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer x"}],
)
def test_others_are_told_that_a_token_is_needed(ground: Ground, headers: dict[str, str]) -> None:
    answer = ground.http.get(f"/v1/{ground.project_id}/plans", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "unauthorized" in answer.json()
    assert "token" in content_of(answer)["message"]


def test_the_project_of_the_path_must_be_the_token_s(ground: Ground) -> None:
    answer = ground.http.get(
        f"/v1/{ground.below.other_id}/plans", headers={"X-Auth-Token": ground.token[Role.ADMIN]}
    )
    assert answer.status_code == 400
    assert content_of(answer)["message"].startswith("Malformed request url")
    dashless = ground.project_id.replace("-", "").upper()
    again = ground.http.get(f"/v1/{dashless}/plans", headers={"X-Auth-Token": ground.token[Role.ADMIN]})
    assert again.status_code == 200


def test_things_of_another_project_are_not_found_and_not_listed(ground: Ground) -> None:
    plan, trigger, operation = ground.plan(), ground.trigger(), ground.operation()
    headers = {"X-Auth-Token": ground.stranger}
    base = f"/v1/{ground.below.other_id}"
    for path in (
        f"/plans/{plan['id']}",
        f"/triggers/{trigger['id']}",
        f"/scheduled_operations/{operation['id']}",
    ):
        assert ground.http.get(base + path, headers=headers).status_code == 404
        assert ground.http.delete(base + path, headers=headers).status_code == 404
    assert ground.http.get(f"{base}/plans", headers=headers).json() == {"plans": []}
    assert ground.http.get(f"{base}/triggers", headers=headers).json() == {"triggers": []}


def test_only_an_administrator_lists_all_projects(ground: Ground) -> None:
    ground.plan()
    ground.refused(403, "GET", "/plans", all_tenants="1")
    for word in ("1", "True"):
        found = ground.call("GET", "/plans", role=Role.ADMIN, all_tenants=word)["plans"]
        assert len(found) == 1
    other = ground.below.other_id
    assert ground.call("GET", "/plans", role=Role.ADMIN, all_tenants=1, project_id=other)["plans"] == []
    fault = ground.refused(400, "GET", "/plans", role=Role.ADMIN, all_tenants="perhaps")
    assert fault["errors"][0]["field"] == "all_tenants"


_REQUESTS = {
    "list_plans": ("GET", "/plans"),
    "create_plan": ("POST", "/plans"),
    "delete_plan": ("DELETE", f"/plans/{uuid.uuid4()}"),
    "create_restore": ("POST", "/restores"),
    "list_services": ("GET", "/services"),
    "update_service": ("PUT", "/os-services/1"),
    "cancel_run": ("POST", f"/runs/{uuid.uuid4()}/cancel"),
    "pause_trigger": ("POST", f"/triggers/{uuid.uuid4()}/pause"),
    "list_operation_logs": ("GET", "/operation_logs"),
}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_do_what_the_table_says_and_nothing_else(ground: Ground, role: Role) -> None:
    for name, (method, path) in _REQUESTS.items():
        answer = ground.ask(method, path, None if method == "GET" else {}, role=role)
        assert (answer.status_code != 403) == (role in policy.ALLOWED[name]), (name, answer.text)


def test_a_route_without_a_row_in_the_table_stops_the_start() -> None:
    with pytest.raises(AssertionError, match="new_route"):
        policy.check_complete([*policy.ALLOWED, "new_route"])
