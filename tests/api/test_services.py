# SPDX-License-Identifier: Apache-2.0
"""/services, also as /os-services, and the quotas that Karbor's clients ask for."""

from __future__ import annotations

import uuid

import pytest

from seawall.core.caller import Role
from tests.api.ground import Ground

ADMIN = Role.ADMIN


@pytest.fixture
def service_id(ground: Ground) -> int:
    return ground.services.find_or_create("node", "seawall-protection", "1", 1)


@pytest.mark.parametrize("path", ["/services", "/os-services"])
def test_services_are_up_while_they_beat(ground: Ground, service_id: int, path: str) -> None:
    (one,) = ground.call("GET", path, role=ADMIN)["services"]
    assert (one["id"], one["state"], one["status"]) == (service_id, "up", "enabled")
    ground.clock.advance(31)
    assert ground.call("GET", path, role=ADMIN)["services"][0]["state"] == "down"
    assert ground.call("GET", path, role=ADMIN, host="other") == {"services": []}
    assert len(ground.call("GET", path, role=ADMIN, binary="seawall-protection")["services"]) == 1
    ground.refused(400, "GET", path, role=ADMIN, colour="red")


@pytest.mark.parametrize("path", ["/services", "/os-services"])
def test_a_service_is_switched_off_with_a_reason_and_on_without(
    ground: Ground, service_id: int, path: str
) -> None:
    path = f"{path}/{service_id}"
    body = {"status": "disabled", "disabled_reason": "moving"}
    off = ground.call("PUT", path, body, role=ADMIN)["service"]
    assert (off["status"], off["disabled_reason"]) == ("disabled", "moving")
    ground.refused(400, "PUT", path, {"status": "enabled", "disabled_reason": "moving"}, role=ADMIN)
    assert ground.call("PUT", path, {"status": "enabled"}, role=ADMIN)["service"]["status"] == "enabled"
    for wrong in ({}, {"status": "up"}, {"status": "enabled", "colour": "red"}):
        ground.refused(400, "PUT", path, wrong, role=ADMIN)
    ground.refused(404, "PUT", "/services/999", {"status": "enabled"}, role=ADMIN)


def test_nothing_is_limited_and_the_quota_says_so(ground: Ground) -> None:
    wanted = {"id": ground.project_id, "plans": -1, "checkpoints": -1}
    for path in (f"/quotas/{ground.project_id}", f"/quotas/{ground.project_id}/defaults"):
        assert ground.call("GET", path)["quota"] == wanted
    ground.refused(403, "GET", f"/quotas/{uuid.uuid4()}")
    assert ground.call("GET", "/quota_classes/default")["quota_class"]["plans"] == -1
