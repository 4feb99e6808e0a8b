# SPDX-License-Identifier: Apache-2.0
"""Versions, health and the description of the API need no token."""

from __future__ import annotations

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
    assert ground.http.get("/health/ready").json() == {"status": "ready"}
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
