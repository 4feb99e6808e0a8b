# SPDX-License-Identifier: Apache-2.0
"""What is done to a running installation: between them, these acts pass every failpoint of the service.

Beside each of them the schedule goes on: a backup every two seconds, retention, clean-up, heartbeats.
"""

from __future__ import annotations

import hmac
import io
import shutil
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from demo.service import Json
from tests.crash.ground import LIVE, Ground

Act = Callable[[Ground], None]
_DAYS_US = 2 * 86_400_000_000


def protect_and_restore(ground: Ground) -> None:
    """The default: back up by hand, restore elsewhere, delete."""
    folder, database = ground.sources_of(ground.plan)
    ground.change(folder, database, len(ground.rows("SELECT 1 FROM restores")))
    made = ground.back_up(ground.plan, key=str(uuid4()))
    assert ground.ended(made) == "available"
    target = ground.folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    ground.restore(ground.plan, made, target)
    ground.assert_restored()
    ground.call("DELETE", f"{ground.checkpoints_of(ground.plan)}/{made['id']}")
    assert ground.ended(made) == "deleted"


def restore_over(ground: Ground) -> None:
    """A restore that replaces files which have other content."""
    made = ground.back_up(ground.plan)
    assert ground.ended(made) == "available"
    folder, _ = ground.sources_of(ground.plan)
    target = ground.folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target / folder.name, symlinks=True)
    for path in (target / folder.name).iterdir():
        if path.is_file() and not path.is_symlink():
            path.write_text(f"other content of {path.name}")
    ground.restore(ground.plan, made, target)
    ground.assert_restored()


def download(ground: Ground) -> None:
    made = ground.back_up(ground.plan)
    assert ground.ended(made) == "available"
    archive = ground.fetch(f"{ground.checkpoints_of(ground.plan)}/{made['id']}/download", format="tar")
    folder, database = ground.sources_of(ground.plan)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        names = {Path(name).name for name in opened.getnames()}
    assert {folder.name, database.name} <= names


def restore_in_place(ground: Ground) -> None:
    made = ground.back_up(ground.own)
    assert ground.ended(made) == "available"
    ground.restore(ground.own, made, None)
    ground.assert_restored()


def schedule(ground: Ground) -> None:
    """All that can be asked of triggers and scheduled operations."""
    trigger = ground.new_trigger("extra", "3600")
    path = f"/triggers/{trigger['id']}"
    ground.call("POST", f"{path}/pause", {"reason": "testing"})
    ground.call("POST", f"{path}/resume")
    properties = {"format": "interval", "pattern": "7200"}
    ground.call("PUT", path, {"trigger_info": {"name": "extra", "properties": properties}})
    definition = {"plan_id": ground.plan["id"], "provider_id": ground.plan["provider_id"]}
    made = ground.new_operation("extra", "protect", trigger["id"], definition)
    operation = f"/scheduled_operations/{made['id']}"
    ground.call("PUT", operation, {"scheduled_operation": {"enabled": False}})
    ground.call("DELETE", operation)
    ground.call("DELETE", path)


def once_soon(ground: Ground, operation_type: str, definition: Json, **more: Any) -> Json:
    """A new scheduled operation that is due once, in a moment."""
    trigger = ground.new_trigger("once", "864000")
    operation = ground.new_operation("once", operation_type, trigger["id"], definition, **more)
    properties = {"format": "interval", "pattern": "864000"}
    query = "SELECT 1 FROM triggers WHERE id = ? AND fired_through_at < ?"
    due_at = 0
    while not ground.rows(query, trigger["id"], due_at):  # else the moment was over before we had said it
        start = ground.clock.now().replace(microsecond=0) + timedelta(seconds=2)
        due_at = int(start.timestamp()) * 1_000_000
        properties["start_time"] = start.strftime("%Y-%m-%d %H:%M:%S")
        body = {"trigger_info": {"name": "once", "properties": properties}}
        ground.call("PUT", f"/triggers/{trigger['id']}", body)
    return operation


def ask_and_fire(ground: Ground) -> None:
    """Runs that no clock makes: now, for a time that is past, and by a signed request."""
    an_hour_ago = ground.clock.now().replace(microsecond=0) - timedelta(hours=1, seconds=30)
    trigger = ground.new_trigger("hourly", "3600", start=an_hour_ago)
    definition = {"plan_id": ground.own["id"], "provider_id": ground.own["provider_id"]}
    operation = ground.new_operation("asked", "protect", trigger["id"], definition)
    path = f"/scheduled_operations/{operation['id']}"
    ground.call("POST", f"{path}/run")
    span = {"start": an_hour_ago.isoformat(), "end": (an_hour_ago + timedelta(minutes=1)).isoformat()}
    made = ground.call("POST", f"{path}/backfill", {**span, "dry_run": False})["backfill"]
    assert len(made["times"]) == 1
    body = {"trigger_info": {"name": "hook", "type": "event", "properties": {"source": "webhook"}}}
    hook = ground.call("POST", "/triggers", body)["trigger_info"]
    ground.new_operation("fired", "protect", hook["id"], definition)
    hook = ground.call("POST", f"/triggers/{hook['id']}/rotate_secret")["trigger_info"]
    stamp = str(int(ground.clock.now().timestamp()))
    signature = hmac.new(hook["secret"].encode(), f"{stamp}\n\n{{}}".encode(), "sha256").hexdigest()
    headers = {"Seawall-Timestamp": stamp, "Seawall-Signature": f"sha256={signature}"}
    ground.call("POST", f"/triggers/{hook['id']}/fire", {}, headers=headers, status=202)


def _sleep(ground: Ground) -> Json:
    """A run that has begun and goes on until the gate is opened; the scheduled operation it is of."""
    ground.gate.unlink(missing_ok=True)
    operation = once_soon(ground, "sleeper", {"gate": str(ground.gate)})
    query = "SELECT id FROM runs WHERE scheduled_operation_id = ? AND state = 'in_progress'"
    ground.until("the sleeper to sleep", lambda: ground.rows(query, operation["id"]) or None)
    return operation


def cancel(ground: Ground) -> None:
    operation = _sleep(ground)
    ((run_id,),) = ground.rows("SELECT id FROM runs WHERE scheduled_operation_id = ?", operation["id"])
    ground.call("POST", f"/runs/{run_id}/cancel")
    query = "SELECT state FROM runs WHERE id = ? AND state = 'cancelled'"
    ground.until("the run to be cancelled", lambda: ground.rows(query, run_id) or None)


def stop(ground: Ground) -> None:
    """SIGTERM while something runs that does not end by itself: the caller stops the service."""
    _sleep(ground)


def make_plans(ground: Ground) -> None:
    sources = ground.sources_of(ground.plan)
    made = ground.new_plan("passing", ground.plan["provider_id"], sources)
    ground.call("PUT", f"/plans/{made['id']}", {"plan": {"name": "passing by"}})
    ground.call("DELETE", f"/plans/{made['id']}")


def pin_and_reset(ground: Ground) -> None:
    made = ground.back_up(ground.own)
    assert ground.ended(made) == "available"
    path = f"{ground.checkpoints_of(ground.own)}/{made['id']}"
    ground.call("PUT", path, {"checkpoint": {"pinned": True}})
    ground.call("PUT", path, {"os-resetState": {"state": "error"}})
    ground.call("PUT", path, {"os-resetState": {"state": "available"}})
    ground.call("PUT", path, {"checkpoint": {"pinned": False}})


def be_refused(ground: Ground) -> None:
    """A request with a key that is refused frees the key."""
    body = {"checkpoint": {"plan_id": str(uuid4())}}
    ground.call("POST", ground.checkpoints_of(ground.plan), body, key=str(uuid4()), status=404)


def use_new_bank(ground: Ground) -> None:
    """The first backup on a bank makes its repository."""
    name = uuid4().hex[:8]
    bank = ground.folder / f"bank {name}"
    bank.mkdir()
    plan = ground.new_plan(name, ground.new_provider(name, bank), ground.sources_of(ground.own))
    assert ground.ended(ground.back_up(plan)) == "available"


def use_broken_bank(ground: Ground) -> None:
    """A delete fails, a backup fails, a scheduled one is tried again until the bank is there again."""
    made = ground.back_up(ground.own)
    assert ground.ended(made) == "available"
    ground.break_bank()
    try:
        ground.call("DELETE", f"{ground.checkpoints_of(ground.own)}/{made['id']}")
        # Those in error are deleted after a while.
        assert ground.ended(made) in ("error", "deleted")
        assert ground.ended(ground.back_up(ground.own)) in ("error", "deleted")
        definition = {"plan_id": ground.own["id"], "provider_id": ground.own["provider_id"]}
        retry = {"max_attempts": 50, "delay_s": 1}
        operation = once_soon(ground, "protect", definition, retry=retry)
        query = "SELECT 1 FROM runs WHERE scheduled_operation_id = ? AND attempt > 1"
        ground.until("a second attempt", lambda: ground.rows(query, operation["id"]) or None)
    finally:
        ground.mend()
    query = "SELECT 1 FROM runs WHERE scheduled_operation_id = ? AND state = 'success'"
    ground.until("the last attempt to succeed", lambda: ground.rows(query, operation["id"]) or None)


def let_days_pass(ground: Ground) -> None:
    """Both repositories are due for maintenance; the second one has lost a snapshot."""
    made = ground.back_up(ground.own)
    assert ground.ended(made) == "available"
    ((snapshot_id,),) = ground.rows("SELECT snapshot_id FROM checkpoints WHERE id = ?", made["id"])
    for file in ground.frail.glob(f"*/snapshots/{snapshot_id}"):
        file.unlink()
    age_repositories(ground)
    query = "SELECT 1 FROM repositories WHERE maintained_at IS NULL AND format_id IS NOT NULL"
    ground.until("the maintenance", lambda: None if ground.rows(query) else True)
    assert ground.rows("SELECT status FROM checkpoints WHERE id = ?", made["id"])[0][0] in (
        "error",
        "deleted",
    )


def age_repositories(ground: Ground) -> None:
    """They were made, and last maintained, two days ago; what maintained them has been cleaned up since."""
    finished = "operation_type = 'maintain' AND ended_at IS NOT NULL"
    for table in ("run_steps", "run_logs"):
        ground.alter(f"DELETE FROM {table} WHERE run_row IN (SELECT row FROM runs WHERE {finished})")
    ground.alter(f"DELETE FROM runs WHERE {finished}")
    ground.alter(
        "UPDATE repositories SET maintained_at = NULL, created_at = ?"
        " WHERE format_id IS NOT NULL AND id NOT IN (SELECT subject_id FROM runs"
        f" WHERE operation_type = 'maintain' AND state IN {LIVE})",
        int(ground.clock.now().timestamp() * 1_000_000) - _DAYS_US,
    )


def switch_services(ground: Ground) -> None:
    for service in ground.call("GET", "/services")["services"]:
        ground.call("PUT", f"/services/{service['id']}", {"status": "disabled", "disabled_reason": "testing"})
        ground.call("PUT", f"/services/{service['id']}", {"status": "enabled"})


def trouble_clean_up(ground: Ground) -> None:
    """A target of the clean-up fails, and recovers."""
    ground.call(
        "POST",
        ground.checkpoints_of(ground.own),
        {"checkpoint": {"plan_id": ground.own["id"]}},
        key=uuid4().hex,
    )
    ground.alter(
        "CREATE TRIGGER broken BEFORE DELETE ON idempotency_keys BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    ground.alter("UPDATE idempotency_keys SET created_at = created_at - ?", 3 * _DAYS_US)
    query = "SELECT 1 FROM audit WHERE object_type = 'clean_up' AND action = ?"
    before = len(ground.rows(query, "recover"))
    ground.until("the failure to be recorded", lambda: ground.rows(query, "fail")[before:] or None)
    ground.mend()
    ground.until("the recovery to be recorded", lambda: ground.rows(query, "recover")[before:] or None)


# Beginning of a name -> the act that passes it; the longest counts.
ACTS: dict[str, Act] = {
    "": protect_and_restore,
    "catalogue.create_plan": make_plans,
    "catalogue.delete_plan": make_plans,
    "catalogue.pin_checkpoint": pin_and_reset,
    "catalogue.reset_checkpoint": pin_and_reset,
    "catalogue.update_plan": make_plans,
    "checkpoints.download": download,
    "checkpoints.fail": use_broken_bank,
    "checkpoints.lose": let_days_pass,
    "checkpoints.retry": use_broken_bank,
    "cleanup.record": trouble_clean_up,
    "events.webhook": ask_and_fire,
    "idempotency.release": be_refused,
    "repositories.format": use_new_bank,
    "repositories.maintained": let_days_pass,
    "repository.config": use_new_bank,
    "repository.index.after_delete": let_days_pass,
    "repository.index.before_delete": let_days_pass,
    "repository.key": use_new_bank,
    "repository.pending": let_days_pass,
    "repository.restore": restore_over,
    "runs.hand_back": stop,
    "schedules.": schedule,
    "schedules.backfill_operation": ask_and_fire,
    "schedules.cancel_run": cancel,
    "schedules.rotate_secret": ask_and_fire,
    "schedules.run_operation": ask_and_fire,
    "services.stop": stop,
    "services.switch": switch_services,
    "sqlite.restore": restore_in_place,
}


def act_for(name: str) -> Act:
    """What is done to come to a failpoint."""
    return ACTS[max((one for one in ACTS if name.startswith(one)), key=len)]
