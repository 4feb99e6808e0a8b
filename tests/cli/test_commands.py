# SPDX-License-Identifier: Apache-2.0
"""What a person types: each noun does its verbs, and every refusal has its words and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import WIDTH, Terminal

pytestmark = pytest.mark.slow


def test_a_plan_is_made_shown_changed_and_deleted_by_name_or_part_of_its_id(
    terminal: Terminal, source: Path
) -> None:
    made = terminal.json("plan", "create", "papers", str(source), str(source.parent / "app.db"))
    assert [one["type"] for one in made["resources"]] == ["directory", "sqlite"]
    for word in ("papers", "latest", made["id"], made["id"][:6], made["id"][-6:]):
        assert terminal.json("plan", "show", word)["id"] == made["id"]
    assert terminal.json("plan", "update", "papers", "--name", "scripts")["name"] == "scripts"
    assert yaml.safe_load(terminal.run("plan", "list", "-o", "yaml"))[0]["name"] == "scripts"
    assert "is deleted" in terminal.run("plan", "delete", "scripts")
    assert made["id"] not in [one["id"] for one in terminal.json("plan", "list")]


def test_a_trigger_is_previewed_made_changed_paused_resumed_and_deleted(terminal: Terminal) -> None:
    shown = terminal.run(
        "trigger", "preview", "--format", "crontab", "0 2 * * *", "-p", "timezone=Europe/Paris"
    )
    assert "Europe/Paris" in shown
    made = terminal.json("trigger", "create", "nightly", "--format", "crontab", "--pattern", "0 2 * * *")
    changed = terminal.json("trigger", "update", "nightly", "-p", "timezone=Europe/Paris")
    assert changed["properties"]["timezone"] == "Europe/Paris"
    terminal.run("trigger", "pause", "nightly", "--reason", "moving house")
    assert terminal.json("trigger", "show", "nightly")["paused_reason"] == "moving house"
    terminal.run("trigger", "resume", "nightly")
    assert terminal.json("trigger", "show", made["id"])["paused_at"] is None
    terminal.run("trigger", "delete", "nightly")


def test_an_operation_runs_now_and_makes_up_for_a_past_range(terminal: Terminal, source: Path) -> None:
    terminal.run("protect", str(source), "--every", "day", "--at", "02:00", "--name", "asked")
    operation = terminal.json("operation", "list")[0]
    made = terminal.json("operation", "run-now", operation["id"])
    assert (made["kind"], made["scheduled_operation_id"]) == ("manual", operation["id"])
    span = ("--start", "2020-01-01T00:00:00Z", "--end", "2020-01-03T00:00:00Z", "--dry-run")
    assert "nothing was made" in terminal.run("operation", "backfill", operation["id"], *span)
    assert terminal.type("operation", "backfill", operation["id"], "--start", "x", "--end", "y").code == 2
    quiet = [{"name": "new year", "calendar": "DTSTART;VALUE=DATE:20200102"}]
    trigger = operation["trigger_id"]
    given = ("-p", f"exclusions={json.dumps(quiet)}", "-p", "start_time=2019-01-01 00:00:00")
    terminal.run("trigger", "update", trigger, *given)
    assert terminal.type("trigger", "update", trigger, "-p", "exclusions=[").code == 2
    said = terminal.run("operation", "backfill", operation["id"], *span)
    assert "excluded by new year" in said
    assert "1 are excluded" in said


def test_a_backup_is_made_pinned_restored_and_deleted(
    terminal: Terminal, source: Path, tmp_path: Path
) -> None:
    terminal.run("protect", str(source), "--every", "day", "--at", "02:00", "--keep", "3", "--name", "daily")
    made = terminal.json("checkpoint", "create", "--plan", "daily", "--wait")
    assert made["status"] == "available"
    terminal.run("checkpoint", "pin", made["id"][-8:])
    assert terminal.json("checkpoint", "show", "latest")["pinned"] is True
    assert terminal.type("checkpoint", "delete", made["id"]).code == 5
    terminal.run("checkpoint", "unpin", "latest")
    target = tmp_path / "back"
    target.mkdir()
    done = terminal.json("restore", "create", "latest", "--target", str(target), "--wait")
    assert done["status"] == "success"
    assert (target / "papers" / "a").read_text() == "alpha"
    log = terminal.run("run", "log", done["run_id"])
    assert log.strip()
    terminal.run("operation", "disable", "daily")
    assert terminal.json("operation", "show", "daily")["enabled"] is False
    terminal.run("operation", "enable", "daily")
    terminal.run("checkpoint", "delete", made["id"])
    terminal.run("run", "wait", terminal.json("run", "list")[0]["id"])


def test_tables_fit_the_terminal(terminal: Terminal, source: Path) -> None:
    for noun in ("service", "provider", "plan", "trigger", "operation", "run", "checkpoint", "restore"):
        lines = terminal.run(noun, "list").splitlines()
        assert lines
        assert all(len(line.rstrip()) <= WIDTH for line in lines), noun


def test_what_there_is_to_schedule_and_to_protect_is_listed(terminal: Terminal, source: Path) -> None:
    assert "retention_protect" in terminal.run("operation", "types")
    assert {one["type"] for one in terminal.json("protectable", "list")} >= {"directory", "sqlite"}
    assert terminal.run("protectable", "show", "directory")


def test_the_bank_and_the_kit_are_looked_into_without_the_service(terminal: Terminal, source: Path) -> None:
    terminal.run("plan", "create", "looked into", str(source))
    terminal.run("checkpoint", "create", "--plan", "looked into", "--wait")
    assert "SEAWALL RECOVERY KIT" in terminal.run("recovery-kit", "show")
    assert "kept elsewhere" in terminal.run("recovery-kit", "acknowledge")
    assert "no errors" in terminal.run("repository", "check")
    assert isinstance(terminal.json("repository", "snapshots"), list)
    states = {one["state"] for one in terminal.json("doctor")}
    assert states == {"ok"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plan", "show", "nobody"), 3, "nobody"),
        (("plan", "create", "bad", "/nowhere/at/all"), 2, "/nowhere/at/all"),
        (("plan", "create", "bad", "/proc"), 2, "/proc"),
        (("trigger", "create", "bad", "--format", "crontab", "--pattern", "0 0 31 2 *"), 2, "never"),
        (("trigger", "create", "bad", "--format", "lunar", "--pattern", "1"), 2, "lunar"),
        (("trigger", "update", "nobody", "-p", "window"), 3, "nobody"),
        (("operation", "create", "bad", "--type", "x", "--trigger", "y", "--definition", "{"), 3, "y"),
        (("run", "cancel", "nobody"), 3, "nobody"),
        (("checkpoint", "create", "--plan", "nobody"), 3, "nobody"),
        (("restore", "create", "00000000-0000-0000-0000-000000000000"), 3, "00000000"),
        (("recover", "--bank", "/nowhere"), 2, "--key"),
        (("protect", "/tmp", "--every", "fortnightly"), 2, "fortnightly"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_has_its_exit_code(
    terminal: Terminal, words: tuple[str, ...], code: int, said: str
) -> None:
    done = terminal.type(*words)
    assert done.code == code, done
    assert said in done.err


def test_no_service_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = Terminal(tmp_path / "nothing").type("plan", "list")
    assert done.code == 7
    assert "seawall serve" in done.err


def test_recovering_into_a_used_folder_is_refused(terminal: Terminal) -> None:
    done = terminal.type(
        "recover", "--bank", str(terminal.data / "bank"), "--key", str(terminal.data / "recovery-kit.txt")
    )
    assert done.code == 5
    wrong = terminal.type(
        "recover", "--bank", str(terminal.data / "bank"), "--key", "-", given="not-the-key-at-all\n"
    )
    assert wrong.code == 5


def test_a_wrong_recovery_key_has_an_exit_code_of_its_own(
    terminal: Terminal, source: Path, tmp_path: Path
) -> None:
    terminal.run("plan", "create", "kept", str(source))
    terminal.run("checkpoint", "create", "--plan", "kept", "--wait")
    fresh = Terminal(tmp_path / "fresh")
    done = fresh.type(
        "recover", "--bank", str(terminal.data / "bank"), "--key", "-", given="not-the-key-at-all\n"
    )
    assert done.code == 9, done
    assert "not-the-key-at-all" not in done.out + done.err


def test_every_command_explains_itself(terminal: Terminal) -> None:
    top = terminal.run("--help")
    for noun in (
        "serve",
        "protect",
        "plan",
        "trigger",
        "operation",
        "run",
        "checkpoint",
        "restore",
        "doctor",
    ):
        assert noun in top
        assert terminal.run(noun, "--help")
    assert json.loads(json.dumps(terminal.run("--version"))).strip()
