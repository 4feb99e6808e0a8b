# SPDX-License-Identifier: Apache-2.0
"""Versions, health and the description of the API need no token."""

from __future__ import annotations

from seawall.core.caller import Role
from tests.api.ground import Ground, content_of


def test_the_versions_are_listed_with_where_they_are(ground: Ground) -> None:
    answer = ground.http.get("/")
    assert answer.status_code == 300
    version = answer.json()["versions"][0]
    assert (version["id"], version["status"]) == ("v1.0", "CURRENT")
    assert version["links"][0]["href"] == "http://seawall.test/v1/"
    for path in ("/v1", "/v1/"):
        assert ground.http.get(path).json() == {"version": version}


def test_it_is_ready_when_wiring_says_so(ground: Ground) -> None:
    assert ground.http.get("/health/live").status_code == 200
    assert ground.http.get("/health/ready").json() == {
        "status": "ready",
        "broker": {"state": "not configured"},
    }
    ground.reasons.append("the database does not answer")
    answer = ground.http.get("/health/ready")
    assert answer.status_code == 503
    assert "the database does not answer" in content_of(answer)["message"]


def test_it_describes_itself_in_openapi_3_1(ground: Ground) -> None:
    document = ground.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/{project_id}/plans" in document["paths"]
    assert set(document["components"]["securitySchemes"]) == {"APIKeyHeader", "HTTPBearer"}
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(names) == len(set(names))


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_are_for_an_administrator(ground: Ground) -> None:
    assert ground.http.get("/metrics").status_code == 401
    headers = {"X-Auth-Token": ground.token[Role.OPERATOR]}
    assert ground.http.get("/metrics", headers=headers).status_code == 403


def test_metrics_tell_how_runs_services_and_plans_stand(ground: Ground) -> None:
    ground.checkpoint()
    ground.trigger()
    ground.services.find_or_create("here", "seawall-api", "1", 1)
    answer = ground.http.get("/metrics", headers={"X-Auth-Token": ground.token[Role.ADMIN]})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'seawall_runs{state="queued"} 1.0' in lines
    assert 'seawall_service_up{host="here",service="seawall-api"} 1.0' in lines
    assert any(line.startswith("seawall_next_due_timestamp_seconds ") for line in lines)
    assert "seawall_outbox_events 0.0" in lines
    assert not any(line.startswith("seawall_broker") for line in lines)
