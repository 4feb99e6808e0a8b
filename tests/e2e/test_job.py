# SPDX-License-Identifier: Apache-2.0
"""The main job through HTTP and the command line, on a real service with real movers."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.evidence import differences, photograph
from demo.service import SEAWALL, Json, Seawall, wait_until

pytestmark = pytest.mark.slow


def make_source(folder: Path) -> Path:
    """A small directory with what backups forget."""
    source = folder / "source"
    (source / "inner" / "empty").mkdir(parents=True)
    (source / "a").write_text("alpha")
    (source / "inner" / "b").write_bytes(bytes(range(256)) * 100)
    (source / "link").symlink_to("inner/b")
    os.link(source / "a", source / "hard")
    (source / "odd\nname \udcff").write_bytes(b"odd")
    (source / "inner" / "b").chmod(0o640)
    return source


def make_database(folder: Path) -> Path:
    path = folder / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?)", [(one,) for one in range(500)])
    connection.close()
    return path


def provider_of(seawall: Seawall) -> str:
    return str(seawall.call("GET", "/providers")["providers"][0]["id"])


def make_plan(seawall: Seawall, *resources: tuple[str, Path]) -> Json:
    body = {
        "name": "job",
        "provider_id": provider_of(seawall),
        "resources": [{"type": kind, "id": str(path), "name": path.name} for kind, path in resources],
        "parameters": {},
    }
    plan: Json = seawall.call("POST", "/plans", {"plan": body})["plan"]
    return plan


def make_trigger(seawall: Seawall, **properties: Any) -> Json:
    given = {"format": "interval", "pattern": "1", **properties}
    body = {"name": "t", "type": "time", "properties": given}
    trigger: Json = seawall.call("POST", "/triggers", {"trigger_info": body})["trigger_info"]
    return trigger


def schedule(
    seawall: Seawall, plan: Json, trigger: Json, *, kind: str = "retention_protect", **rules: Any
) -> Json:
    body = {
        "name": "job",
        "operation_type": kind,
        "trigger_id": trigger["id"],
        "operation_definition": {"plan_id": plan["id"], "provider_id": plan["provider_id"], **rules},
    }
    made: Json = seawall.call("POST", "/scheduled_operations", {"scheduled_operation": body})
    operation: Json = made["scheduled_operation"]
    return operation


def backup(seawall: Seawall, plan: Json) -> Json:
    path = f"/providers/{plan['provider_id']}/checkpoints"
    made = seawall.call("POST", path, {"checkpoint": {"plan_id": plan["id"]}})["checkpoint"]

    def ended() -> Json | None:
        found: Json = seawall.call("GET", f"{path}/{made['id']}")["checkpoint"]
        return None if found["status"] == "protecting" else found

    return wait_until("the backup", ended)


def restore(seawall: Seawall, plan: Json, checkpoint: Json, target: Path | None) -> Json:
    body = {
        "provider_id": plan["provider_id"],
        "checkpoint_id": checkpoint["id"],
        "restore_target": str(target) if target else None,
        "parameters": {},
    }
    made = seawall.call("POST", "/restores", {"restore": body})["restore"]

    def ended() -> Json | None:
        found: Json = seawall.call("GET", f"/restores/{made['id']}")["restore"]
        return None if found["status"] == "in_progress" else found

    return wait_until("the restore", ended)


def runs_of(seawall: Seawall, operation: Json) -> list[Json]:
    found = seawall.call("GET", "/runs", scheduled_operation_id=operation["id"], limit=1000)["runs"]
    return sorted(found, key=lambda run: datetime.fromisoformat(run["expected_at"]))


def test_files_and_a_database_come_back_in_place_and_elsewhere(seawall: Seawall, tmp_path: Path) -> None:
    source, database = make_source(tmp_path), make_database(tmp_path)
    before = photograph(source)
    plan = make_plan(seawall, ("directory", source), ("sqlite", database))
    made = backup(seawall, plan)
    assert made["status"] == "available", made
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert restore(seawall, plan, made, elsewhere)["status"] == "success"
    copy = next(path.parent for path in elsewhere.rglob("hard"))
    assert differences(before, photograph(copy)) == []
    (source / "a").unlink()
    (source / "inner" / "b").write_text("spoilt")
    database.unlink()
    assert restore(seawall, plan, made, None)["status"] == "success"
    assert differences(before, photograph(source)) == []
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*), sum(x) FROM t").fetchone() == (500, 124750)
    connection.close()


def test_a_schedule_fires_keeps_two_and_stops_when_it_is_disabled(seawall: Seawall, tmp_path: Path) -> None:
    plan = make_plan(seawall, ("directory", make_source(tmp_path)))
    operation = schedule(seawall, plan, make_trigger(seawall), max_backups=2)

    def four() -> list[Json] | None:
        done = [run for run in runs_of(seawall, operation) if run["state"] == "success"]
        return done if len(done) >= 4 else None

    done = wait_until("four backups", four, timeout_s=30)
    seawall.call(
        "PUT", f"/scheduled_operations/{operation['id']}", {"scheduled_operation": {"enabled": False}}
    )

    def quiet() -> list[Json] | None:
        found = runs_of(seawall, operation)
        live = [run for run in found if run["state"] in ("queued", "in_progress", "cancelling")]
        return None if live else found

    wait_until("the last run", quiet)

    def two_left() -> list[Json] | None:
        path = f"/providers/{plan['provider_id']}/checkpoints"
        found = seawall.call("GET", path, plan_id=plan["id"])["checkpoints"]
        left = [one for one in found if one["status"] == "available"]
        return left if len(left) == 2 else None

    left = wait_until("the clean-up", two_left)
    newest = quiet() or []
    assert newest[-1]["result"]["checkpoint_id"] in [one["id"] for one in left]
    assert len({run["expected_at"] for run in newest}) == len(newest)
    assert all(run["attempt"] == 1 for run in done)


def test_clean_up_works_when_no_new_backup_runs(seawall: Seawall, tmp_path: Path) -> None:
    """Fewer are kept from now on: the surplus goes although nothing is due for a year."""
    plan = make_plan(seawall, ("directory", make_source(tmp_path)))
    trigger = make_trigger(seawall)
    operation = schedule(seawall, plan, trigger, max_backups=5)

    def four() -> bool | None:
        done = [run for run in runs_of(seawall, operation) if run["state"] == "success"]
        return True if len(done) >= 4 else None

    wait_until("four backups", four, timeout_s=30)
    yearly = {"format": "crontab", "pattern": "0 0 29 2 *"}
    body = {"trigger_info": {"name": "t", "type": "time", "properties": yearly}}
    seawall.call("PUT", f"/triggers/{trigger['id']}", body)
    definition = {"plan_id": plan["id"], "provider_id": plan["provider_id"], "max_backups": 1}
    changed = {"scheduled_operation": {"operation_definition": definition}}
    seawall.call("PUT", f"/scheduled_operations/{operation['id']}", changed)

    def one_left() -> bool | None:
        path = f"/providers/{plan['provider_id']}/checkpoints"
        found = seawall.call("GET", path, plan_id=plan["id"])["checkpoints"]
        return True if len([one for one in found if one["status"] == "available"]) == 1 else None

    wait_until("the clean-up by itself", one_left, timeout_s=30)


def test_a_missing_source_makes_an_error_checkpoint_with_the_reason(seawall: Seawall, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    plan = make_plan(seawall, ("directory", source))
    source.rename(tmp_path / "gone")
    made = backup(seawall, plan)
    assert made["status"] == "error"
    assert str(source) in json.dumps(made)


def refused(seawall: Seawall, method: str, path: str, body: Json) -> Json:
    """The fault of a request that must be refused with 400."""
    url = (seawall.data / "api-url").read_text().strip()
    token = (seawall.data / "admin-token").read_text().strip()
    answer = httpx.request(method, url + path, json=body, headers={"X-Auth-Token": token}, timeout=30)
    assert answer.status_code == 400, answer.text
    (fault,) = answer.json().values()
    return dict(fault)


BAD_TRIGGERS: list[tuple[Json, str, str]] = [
    ({"format": "interval", "pattern": "0"}, "pattern", "0"),
    ({"format": "interval", "pattern": "often"}, "pattern", "often"),
    ({"format": "crontab", "pattern": "0 0 31 2 *"}, "pattern", "never"),
    ({"format": "crontab", "pattern": "61 * * * *"}, "pattern", "61"),
    ({"format": "crontab", "pattern": "* * *"}, "pattern", "five"),
    ({"format": "calendar", "pattern": "RRULE:FREQ=SECONDLY"}, "pattern", "SECONDLY"),
    ({"format": "lunar", "pattern": "1"}, "format", "lunar"),
    ({"pattern": "1"}, "format", ""),
    ({"format": "interval", "pattern": "60", "timezone": "Mars/Olympus"}, "timezone", "Mars/Olympus"),
    ({"format": "interval", "pattern": "60", "window": "-1"}, "window", "-1"),
    ({"format": "interval", "pattern": "60", "windwo": "1"}, "windwo", ""),
    (
        {
            "format": "interval",
            "pattern": "60",
            "start_time": "2030-01-02 00:00:00",
            "end_time": "2030-01-01 00:00:00",
        },
        "end_time",
        "2030",
    ),
]


def test_a_bad_trigger_is_refused_by_field_value_and_rule(seawall: Seawall) -> None:
    for properties, field, words in BAD_TRIGGERS:
        body = {"trigger_info": {"name": "bad", "type": "time", "properties": properties}}
        fault = refused(seawall, "POST", "/triggers", body)
        assert any(field in one["field"] for one in fault["errors"]), fault
        assert words in json.dumps(fault), fault
    assert seawall.call("GET", "/triggers")["triggers"] == []


def test_bad_plans_are_refused_and_nothing_is_made(seawall: Seawall, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    good = {"type": "directory", "id": str(source), "name": "s"}
    (tmp_path / "text.db").write_text("not a database at all, only some text that is long enough")
    for resources, words in (
        ([], "resources"),
        ([{**good, "id": str(tmp_path / "missing")}], "missing"),
        ([{**good, "type": "moon"}], "moon"),
        ([good, good], "resources[1]"),
        ([{**good, "id": str(source / "a")}], "directory"),
        ([{**good, "colour": "red"}], "colour"),
        ([{"type": "sqlite", "id": str(tmp_path / "text.db"), "name": "d"}], "text.db"),
    ):
        body = {"name": "bad", "provider_id": provider_of(seawall), "resources": resources, "parameters": {}}
        assert words in json.dumps(refused(seawall, "POST", "/plans", {"plan": body})), resources
    assert seawall.call("GET", "/plans")["plans"] == []


def test_protect_does_it_all_in_one_and_says_when_it_runs_next(seawall: Seawall, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    words = seawall.cli("protect", str(source), "--every", "day", "--at", "02:00", "--keep", "7")
    assert "02:00" in words
    operation = seawall.call("GET", "/scheduled_operations")["operations"][0]
    assert operation["operation_type"] == "retention_protect"
    assert str(operation["operation_definition"]["max_backups"]) == "7"
    refusal = subprocess.run(
        [str(SEAWALL), "protect", str(tmp_path / "nothing"), "--every", "day"],
        env={**os.environ, "SEAWALL_DATA_DIR": str(seawall.data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refusal.returncode in (2, 3)
    assert "nothing" in refusal.stderr
    assert len(seawall.call("GET", "/plans")["plans"]) == 1
    assert len(seawall.call("GET", "/triggers")["triggers"]) == 1
