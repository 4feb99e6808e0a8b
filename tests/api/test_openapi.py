# SPDX-License-Identifier: Apache-2.0
"""The API keeps what its own OpenAPI document says, whatever is sent: schemathesis makes requests of every
route, such as fit the document and such as do not.

Always the same ones, so that a run repeats; ``API_FUZZ_EXAMPLES=1000`` makes another and longer run of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from seawall.api.app import build_app
from seawall.core.caller import Role
from tests.api.ground import Ground, content_of

pytestmark = pytest.mark.slow
_EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", "0"))
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


FITTING, OTHER_BODIES, OTHER_PATHS = "fitting", "other bodies", "other paths"


def _asked() -> list[tuple[str, str, str]]:
    """(method, path, what is sent) of every route with a project."""
    document = build_app(None, ready=list).openapi()  # type: ignore[arg-type]  # asks nobody
    found = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            given = {one["in"] for one in route.get("parameters", ())}
            if "{project_id}" not in path:
                continue
            found.append((method, path, FITTING))
            if "requestBody" in route or given & {"query", "header"}:
                found.append((method, path, OTHER_BODIES))
            if path.count("{") > 1:
                found.append((method, path, OTHER_PATHS))
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One for all requests: what they make does not matter."""
    made = Ground(tmp_path_factory.mktemp("openapi"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(shared: Ground) -> Any:
    return schemathesis.openapi.from_dict(
        shared.http.get("/openapi.json").json(), config=schemathesis.Config(seed=1)
    )


def _there(ground: Ground) -> dict[str, Any]:
    """What is there to be asked for, made anew: the last route may have deleted it."""
    operation = ground.operation(uuid.uuid4().hex)
    made = ground.checkpoint()
    return {
        "project_id": ground.project_id,
        "provider_id": ground.provider_id,
        "plan_id": made["plan_id"],
        "trigger_id": operation["trigger_id"],
        "operation_id": operation["id"],
        "checkpoint_id": made["id"],
        "run_id": made["run_id"],
        "service_id": ground.services.find_or_create("node", "b", "1", 1),
        "resource_type": "directory",
        "of_project": ground.project_id,
    }


@pytest.mark.parametrize(("method", "path", "sent"), _asked())
def test_every_answer_is_a_documented_one(
    shared: Ground, document: Any, method: str, path: str, sent: str
) -> None:
    there = {name: value for name, value in _there(shared).items() if f"{{{name}}}" in path}
    if sent == OTHER_PATHS:
        there = {"project_id": shared.project_id}
    requests = document[path][method.upper()].as_strategy(
        generation_mode=GenerationMode.NEGATIVE if sent == OTHER_BODIES else GenerationMode.POSITIVE,
        path_parameters=there,
        headers={"X-Auth-Token": shared.token[Role.ADMIN]},
    )

    @settings(
        max_examples=_EXAMPLES or 12,
        derandomize=not _EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests)
    def ask(case: Any) -> None:
        answer = case.call(app=shared.app)
        case.validate_response(answer, checks=_CHECKS)
        if 400 <= answer.status_code < 500:
            _check_refusal(answer)

    ask()


def _check_refusal(answer: Any) -> None:
    content = content_of(
        httpx.Response(
            answer.status_code,
            headers={name: values[0] for name, values in answer.headers.items()},
            content=answer.content,
        )
    )
    if answer.status_code == 400:
        assert content["errors"], content
    for one in content.get("errors", []):
        assert one["field"], content
        assert one["message"], content
