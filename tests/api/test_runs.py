# SPDX-License-Identifier: Apache-2.0
"""/runs and /operation_logs"""

from __future__ import annotations

import uuid

from seawall.core.records import Json
from seawall.db import runs, services
from seawall.db.session import Tx
from tests.api.ground import Ground
from tests.api.test_restores import wanted


def test_a_run_is_listed_shown_and_cancelled_once(ground: Ground) -> None:
    made = ground.checkpoint()
    (run,) = ground.call("GET", "/runs", plan_id=made["plan_id"], state="queued")["runs"]
    path = f"/runs/{run['id']}"
    assert ground.call("GET", path)["run"] == run
    assert ground.call("GET", f"{path}/log") == {"log": []}
    assert ground.call("POST", f"{path}/cancel")["run"]["state"] == "cancelled"
    ground.refused(409, "POST", f"{path}/cancel")
    for wrong in (f"/runs/{uuid.uuid4()}", f"/runs/{uuid.uuid4()}/log"):
        ground.refused(404, "GET", wrong)
    ground.refused(400, "GET", "/runs/no-uuid")
    ground.refused(400, "GET", "/runs", colour="red")
    ground.refused(400, "GET", f"{path}/log", after=-1)


def test_the_log_goes_on_after_the_lines_already_seen(ground: Ground) -> None:
    made = ground.checkpoint()
    lease_until = ground.clock.now().replace(year=2030)

    def work(tx: Tx) -> None:
        service = services.find_or_create(tx, host="here", binary="b", version="1", pid=1)
        (held,) = runs.claim(tx, service_row=service, host="here", limit=1, lease_until=lease_until)
        runs.add_log(tx, [(held.row, tx.now, "info", text) for text in ("one", "two")])

    ground.database.write("test", work)
    path = f"/runs/{made['run_id']}/log"
    lines = ground.call("GET", path)["log"]
    assert [one["text"] for one in lines] == ["one", "two"]
    assert lines[0].keys() == {"at", "level", "text"}
    assert ground.call("GET", path, after=1)["log"] == lines[1:]
    running = ground.call("POST", f"/runs/{made['run_id']}/cancel")["run"]
    assert running["state"] == "cancelling"


def test_runs_are_paged(ground: Ground) -> None:
    plan = ground.plan()
    made = [ground.checkpoint(plan)["run_id"] for _ in range(3)]
    page = ground.call("GET", "/runs", limit=2)
    assert [one["id"] for one in page["runs"]] == made[:0:-1]
    assert "runs_links" in page
    rest = ground.call("GET", "/runs", limit=2, marker=page["runs"][-1]["id"])
    assert [one["id"] for one in rest["runs"]] == made[:1]
    assert "runs_links" not in rest


def test_the_operation_log_has_karbor_s_words_and_filters(ground: Ground) -> None:
    body = wanted(ground)
    restore = ground.call("POST", "/restores", body)["restore"]
    checkpoint_id = restore["checkpoint_id"]

    def logs(**query: object) -> list[Json]:
        found: list[Json] = ground.call("GET", "/operation_logs", **query)["operation_logs"]
        return found

    assert [one["operation_type"] for one in logs()] == ["restore", "protect"]
    assert [one["status"] for one in logs(restore_id=restore["id"])] == ["in_progress"]
    assert [one["operation_type"] for one in logs(status="protecting")] == ["protect"]
    assert [one["checkpoint_id"] for one in logs(checkpoint_id=checkpoint_id)][-1] == checkpoint_id
    assert logs(status="available") == logs(status="unheard of") == []
    one = logs()[0]
    assert ground.call("GET", f"/operation_logs/{one['id']}")["operation_log"] == one
    ground.refused(404, "GET", f"/operation_logs/{uuid.uuid4()}")
