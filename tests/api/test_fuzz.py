# SPDX-License-Identifier: Apache-2.0
"""Whatever JSON is sent to whatever route, it is refused with a reason or done: never a 500."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seawall.core.caller import Role
from seawall.core.records import Json
from tests.api.ground import Ground, content_of


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One for all examples: what they make does not matter."""
    made = Ground(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def routes(shared: Ground) -> list[tuple[str, str]]:
    return writing_routes(shared)


def is_writing(method: str) -> bool:
    return method in ("POST", "PUT")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.sampled_from(
    ["", "0001-01-01 00:00:00", "9999-12-31 23:59:59", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00+14:00"]
)
WORDS = st.sampled_from(
    ["time", "interval", "crontab", "calendar", "60", "* * * * *", "RRULE:FREQ=DAILY", "UTC", "BEGIN:VEVENT"]
    + ["Europe/Paris", "..", "protect", "retention", "directory", "note", "n1", "/", "enabled", "available"]
)
IDS = st.sampled_from([str(uuid.UUID(int=0)), "0" * 32, "{" + "f" * 32 + "}"])
VALUE = st.one_of(ANY, WORDS, IDS, TIMES, st.integers(-1, 2**53))

FIELDS = {
    "plan": ["name", "description", "provider_id", "resources", "parameters", "status"],
    "checkpoint": ["plan_id", "extra-info", "extra_info", "pinned"],
    "os-resetState": ["state"],
    "trigger_info": ["name", "type", "properties"],
    "scheduled_operation": [
        *("name", "description", "operation_type", "trigger_id", "operation_definition", "enabled"),
        *("overlap", "timeout_s", "priority", "retry"),
    ],
    "restore": ["provider_id", "checkpoint_id", "restore_target", "restore_auth", "parameters"],
}
PROPERTIES = st.dictionaries(
    st.sampled_from(
        ["format", "pattern", "start_time", "end_time", "window", "timezone", "spread", "misfire", "dst_gap"]
    ),
    VALUE,
)
BODIES = st.one_of(
    ANY,
    *(
        st.fixed_dictionaries({key: st.dictionaries(st.sampled_from(names), VALUE)})
        for key, names in FIELDS.items()
    ),
    st.fixed_dictionaries(
        {
            "trigger_info": st.fixed_dictionaries(
                {"name": WORDS, "type": st.just("time"), "properties": PROPERTIES}
            )
        }
    ),
    st.fixed_dictionaries({"properties": PROPERTIES}, optional={"count": VALUE}),
    st.fixed_dictionaries({}, optional={"reason": VALUE, "until": VALUE}),
    st.fixed_dictionaries({}, optional={"status": VALUE, "disabled_reason": VALUE}),
)


def writing_routes(ground: Ground) -> list[tuple[str, str]]:
    """Every POST and PUT, with things that are there in its path."""
    operation = ground.operation(uuid.uuid4().hex)
    made = ground.checkpoint()
    there = {
        "project_id": ground.project_id,
        "provider_id": ground.provider_id,
        "plan_id": made["plan_id"],
        "trigger_id": operation["trigger_id"],
        "operation_id": operation["id"],
        "checkpoint_id": made["id"],
        "run_id": made["run_id"],
        "service_id": str(ground.services.find_or_create("node", "b", "1", 1)),
    }
    paths: Json = ground.http.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), path.format(**there).removeprefix(f"/v1/{ground.project_id}"))
        for path, methods in paths.items()
        for method in methods
        if is_writing(method.upper())
    ]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_body_makes_a_500(shared: Ground, routes: list[tuple[str, str]], data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from(routes))
    body = data.draw(BODIES)
    answer = shared.ask(method, path, [] if body is None else body, role=Role.ADMIN)
    assert answer.status_code < 500, (method, path, body, answer.text)
    if answer.status_code != 200:
        content_of(answer)
