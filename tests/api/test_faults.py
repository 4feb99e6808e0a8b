# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a request has one shape, names its field, and is never a 500."""

from __future__ import annotations

import json

import pytest

from seawall.api.edge import BODY_LIMIT_BYTES
from seawall.core.caller import Role
from tests.api.ground import Ground, content_of


def send(ground: Ground, content: bytes, kind: str = "application/json"):  # type: ignore[no-untyped-def]
    return ground.http.post(
        f"/v1/{ground.project_id}/plans",
        content=content,
        headers={"X-Auth-Token": ground.token[Role.OPERATOR], "Content-Type": kind},
    )


@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        (b"{", "body", "JSON"),
        (b"", "body", "missing"),
        (b"[]", "body", "object"),
        (b"null", "body", "object"),
        (b'"plan"', "body", "object"),
        (b'{"plan": {"name": "\xff"}}', "body", "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "body", "UTF-8"),
        (b'{"plan": {"name": "a", "name": "b"}}', "name", "twice"),
        (b'{"plan": {"name": "a\\u0000"}}', "name", "NUL"),
        (b'{"plan": {"name": "a\\ud800"}}', "name", "surrogate"),
        (b'{"plan": {"parameters": {"x": NaN}}}', "parameters.x", "finite"),
        (b'{"plan": {"parameters": {"x": 1e999}}}', "parameters.x", "finite"),
        (b'{"plan": {"parameters": {"x": ' + b"9" * 30 + b"}}}", "parameters.x", "2^53"),
        (b'{"plan": {"parameters": {"x": ' + b"9" * 5000 + b"}}}", "parameters.x", "2^53"),
        (b'{"plan": ' + b"[" * 100 + b"]" * 100 + b"}", "0", "deeper"),
        (b"[" * 200_000 + b"]" * 200_000, "body", "deeper"),
    ],
)
def test_a_body_that_cannot_be_stored_is_refused(
    ground: Ground, content: bytes, field: str, words: str
) -> None:
    answer = send(ground, content)
    assert answer.status_code == 400, answer.text
    errors = content_of(answer)["errors"]
    assert any(one["field"] == field and words in one["message"] for one in errors), errors


def test_a_body_that_is_too_large_is_refused_whole(ground: Ground) -> None:
    answer = send(ground, b'{"plan": "' + b"x" * BODY_LIMIT_BYTES + b'"}')
    assert answer.status_code == 413
    assert answer.json()["overLimit"]["retryAfter"] == "0"


def test_another_content_type_gets_a_hint(ground: Ground) -> None:
    answer = send(ground, b"plan=1", "application/x-www-form-urlencoded")
    assert answer.status_code == 400
    assert "application/json" in content_of(answer)["hint"]


def test_what_the_router_refuses_has_the_same_shape(ground: Ground) -> None:
    unknown = ground.ask("GET", "/nothing")
    assert unknown.status_code == 404
    assert "itemNotFound" in unknown.json()
    content_of(unknown)
    wrong = ground.ask("PATCH", "/plans")
    assert wrong.status_code == 405
    assert "badMethod" in wrong.json()
    content_of(wrong)
    assert wrong.headers["Allow"]
    assert ground.ask("GET", "/plans/").status_code == 404


def test_all_wrong_fields_are_named_at_once(ground: Ground) -> None:
    fault = ground.refused(400, "POST", "/plans", {"plan": {"name": 1, "colour": "red", "resources": []}})
    assert {one["field"] for one in fault["errors"]} == {"name", "colour", "resources", "provider_id"}


def test_a_secret_is_never_repeated(ground: Ground) -> None:
    restore = {
        "restore_auth": {"type": "password", "username": "u", "password": "hunter2"},
        "password": "hunter2",
    }
    assert "hunter2" not in json.dumps(ground.refused(400, "POST", "/restores", {"restore": restore}))
    body = ground.operation_body()
    body["scheduled_operation"]["operation_definition"]["token"] = "hunter2"
    assert "hunter2" not in json.dumps(ground.refused(400, "POST", "/scheduled_operations", body))


@pytest.mark.parametrize("path", ["/plans/%00", "/triggers?name=%00", "/plans?limit=%00", "/services/0"])
def test_odd_paths_and_queries_are_refused(ground: Ground, path: str) -> None:
    role = Role.ADMIN
    assert ground.ask("GET", path, role=role).status_code in (400, 404, 405)


def test_a_query_without_a_name_is_named_all_the_same(ground: Ground) -> None:
    (error,) = ground.refused(400, "GET", "/plans?=x")["errors"]
    assert error["field"] == "query"


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 30, "9223372036854775807"])
def test_a_service_id_is_a_number_that_the_database_knows(ground: Ground, number: str) -> None:
    body = {"status": "enabled"}
    assert ground.ask("PUT", f"/services/{number}", body, role=Role.ADMIN).status_code in (400, 404)


def test_a_database_that_is_away_is_503_and_worth_another_try(ground: Ground) -> None:
    file = ground.below.data.database
    ground.database.engine.dispose()
    file.rename(file.with_suffix(".away"))
    file.mkdir()
    answer = ground.ask("GET", "/plans")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "serviceUnavailable" in answer.json()
    file.rmdir()
    file.with_suffix(".away").rename(file)
    assert ground.ask("GET", "/plans").status_code == 200


def test_a_bug_is_a_500_that_names_only_its_request(ground: Ground) -> None:
    def break_down() -> None:
        raise RuntimeError("hunter2")

    asked: list[object] = ground.below.sources.protectables.get("note").asked  # type: ignore[attr-defined]  # its own
    asked.append(break_down)
    answer = ground.ask("GET", "/protectables/note/instances/n1")
    asked.clear()
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert content_of(answer)["request_id"] in content_of(answer)["message"]
