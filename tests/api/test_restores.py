# SPDX-License-Identifier: Apache-2.0
"""/restores"""

from __future__ import annotations

import uuid

from seawall.core.caller import Role
from seawall.core.records import Json
from tests.api.ground import Ground
from tests.api.test_checkpoints import record_of
from tests.catalogue.test_checkpoints import finish


def wanted(ground: Ground, **more: object) -> Json:
    made = ground.checkpoint()
    finish(ground.below, record_of(ground, made))
    body = {"provider_id": ground.provider_id, "checkpoint_id": made["id"], "parameters": {}}
    return {"restore": {**body, "restore_target": None, "restore_auth": None, **more}}


def test_a_restore_is_made_by_who_may_restore_and_names_its_run(ground: Ground) -> None:
    made = ground.call("POST", "/restores", wanted(ground), role=Role.RESTORER)["restore"]
    assert made["status"] == "in_progress"
    assert ground.call("GET", f"/restores/{made['id']}")["restore"] == made
    assert ground.call("GET", "/restores", status="in_progress")["restores"] == [made]
    assert ground.call("GET", "/restores", status="success") == {"restores": []}
    assert ground.call("GET", f"/runs/{made['run_id']}")["run"]["kind"] == "restore"


def test_what_cannot_be_restored_is_refused(ground: Ground) -> None:
    good = wanted(ground)
    protecting = ground.checkpoint()["id"]
    for change, status in (
        ({"checkpoint_id": protecting}, 409),
        ({"checkpoint_id": str(uuid.uuid4())}, 404),
        ({"provider_id": "p"}, 400),
        ({"restore_target": "/etc"}, 400),
        ({"restore_target": "relative"}, 400),
        ({"restore_auth": {"type": "password"}}, 400),
        ({"parameters": {"directory": {"colour": "red"}}}, 400),
        ({"colour": "red"}, 400),
    ):
        ground.refused(status, "POST", "/restores", {"restore": {**good["restore"], **change}})
    assert ground.call("GET", "/restores") == {"restores": []}
    ground.refused(404, "GET", f"/restores/{uuid.uuid4()}")
    ground.refused(400, "GET", "/restores", colour="red")


def test_the_same_key_makes_one_restore(ground: Ground) -> None:
    body, key = wanted(ground, restore_target=str(ground.below.srv / "new")), {"Idempotency-Key": "r"}
    first = ground.call("POST", "/restores", body, headers=key)
    assert ground.call("POST", "/restores", body, headers=key) == first
    assert len(ground.call("GET", "/restores")["restores"]) == 1
