# SPDX-License-Identifier: Apache-2.0
"""/providers/{provider_id}/checkpoints"""

from __future__ import annotations

import json
import uuid

import pytest

from seawall.core.records import Checkpoint, Json
from tests.api.ground import Ground
from tests.catalogue.test_checkpoints import finish, lose


def record_of(ground: Ground, made: Json) -> Checkpoint:
    return ground.below.catalogue.get_checkpoint(ground.below.caller, ground.provider_id, made["id"])


def test_a_checkpoint_is_protecting_and_names_its_run(ground: Ground) -> None:
    plan = ground.plan()
    made = ground.checkpoint(plan)
    assert (made["status"], made["pinned"]) == ("protecting", False)
    assert made["protection_plan"]["id"] == plan["id"]
    assert made["protection_plan"]["name"] == plan["name"]
    assert json.loads(made["resource_graph"])[0]["0x0"][0] == "directory"
    assert ground.call("GET", f"/runs/{made['run_id']}")["run"]["state"] == "queued"
    path = f"{ground.checkpoints}/{made['id']}"
    assert ground.call("GET", path)["checkpoint"] == made


@pytest.mark.parametrize("key", ["extra-info", "extra_info"])
def test_extra_info_is_kept_under_both_spellings(ground: Ground, key: str) -> None:
    body = {"checkpoint": {"plan_id": ground.plan()["id"], key: {"why": "release", "nothing": None}}}
    made = ground.call("POST", ground.checkpoints, body)["checkpoint"]
    assert json.loads(made["extra_info"])["why"] == "release"


def test_what_cannot_be_backed_up_is_refused(ground: Ground) -> None:
    body = {"checkpoint": {"plan_id": str(uuid.uuid4())}}
    ground.refused(404, "POST", ground.checkpoints, body)
    good = {"checkpoint": {"plan_id": ground.plan()["id"]}}
    ground.refused(404, "POST", f"/providers/{uuid.uuid4()}/checkpoints", good)
    ground.refused(400, "POST", ground.checkpoints, {"checkpoint": {"plan_id": "p"}})
    fault = ground.refused(400, "POST", ground.checkpoints, {"checkpoint": {"colour": "red"}})
    assert {one["field"] for one in fault["errors"]} == {"plan_id", "colour"}
    assert ground.call("GET", ground.checkpoints) == {"checkpoints": []}


def test_the_same_key_makes_one_checkpoint_and_one_run(ground: Ground) -> None:
    body, key = {"checkpoint": {"plan_id": ground.plan()["id"]}}, {"Idempotency-Key": "now"}
    first = ground.call("POST", ground.checkpoints, body, headers=key)
    assert ground.call("POST", ground.checkpoints, body, headers=key) == first
    assert len(ground.call("GET", "/runs")["runs"]) == 1


def test_karbor_s_reset_answers_an_empty_object(ground: Ground) -> None:
    made = ground.checkpoint()
    path = f"{ground.checkpoints}/{made['id']}"
    ground.refused(409, "PUT", path, {"os-resetState": {"state": "available"}})
    finish(ground.below, record_of(ground, made))
    assert ground.call("PUT", path, {"os-resetState": {"state": "error"}}) == {}
    assert ground.call("GET", path)["checkpoint"]["status"] == "error"
    ground.below.structure_faults.append("pack 12 is missing")
    assert "pack 12" in ground.refused(409, "PUT", path, {"os-resetState": {"state": "available"}})["message"]
    ground.refused(400, "PUT", path, {"os-resetState": {"state": "deleted"}})
    ground.refused(400, "PUT", path, {})


def test_a_pinned_checkpoint_stays_so_until_it_is_unpinned(ground: Ground) -> None:
    made = ground.checkpoint()
    finish(ground.below, record_of(ground, made))
    path = f"{ground.checkpoints}/{made['id']}"
    assert ground.call("PUT", path, {"checkpoint": {"pinned": True}})["checkpoint"]["pinned"] is True
    assert len(ground.call("GET", ground.checkpoints, pinned="true")["checkpoints"]) == 1
    assert ground.call("PUT", path, {"checkpoint": {"pinned": False}})["checkpoint"]["pinned"] is False
    assert ground.call("GET", ground.checkpoints, pinned="true") == {"checkpoints": []}
    ground.refused(400, "PUT", path, {"checkpoint": {"pinned": "yes"}})
    ground.refused(400, "GET", ground.checkpoints, pinned="perhaps")


def test_a_deleted_one_is_deleting_while_a_run_removes_it(ground: Ground) -> None:
    made = ground.checkpoint()
    path = f"{ground.checkpoints}/{made['id']}"
    ground.refused(409, "DELETE", path)
    finish(ground.below, record_of(ground, made))
    assert ground.call("DELETE", path) == {}
    assert ground.call("GET", path)["checkpoint"]["status"] == "deleting"
    (run,) = ground.call("GET", "/runs", subject_id=made["id"], kind="delete")["runs"]
    assert run["operation_type"] == "delete"
    ground.refused(404, "DELETE", f"{ground.checkpoints}/{uuid.uuid4()}")


def test_lists_are_filtered_by_plan_status_and_day_and_paged(ground: Ground) -> None:
    plan = ground.plan()
    first, second = ground.checkpoint(plan), ground.checkpoint()
    lose(ground.below, finish(ground.below, record_of(ground, first)))

    def ids(**query: object) -> list[str]:
        return [one["id"] for one in ground.call("GET", ground.checkpoints, **query)["checkpoints"]]

    assert ids() == [second["id"], first["id"]]
    assert ids(plan_id=plan["id"]) == ids(status="error") == [first["id"]]
    assert ids(start_date="2026-01-02") == ids(end_date="2025-12-31") == []
    assert len(ids(start_date="2026-01-01", end_date="2026-01-01")) == 2
    ground.refused(400, "GET", ground.checkpoints, start_date="yesterday")
    page = ground.call("GET", ground.checkpoints, limit=1)
    href = page["checkpoints_links"][0]["href"]
    assert f"{ground.checkpoints}?" in href
    assert ids(marker=second["id"]) == [first["id"]]
