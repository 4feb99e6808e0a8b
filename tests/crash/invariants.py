# SPDX-License-Identifier: Apache-2.0
"""What must be true after each power cut, seen from outside: the API, the rows, the banks, the sources."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from demo.evidence import due_times, photograph
from demo.service import Json
from seawall.protection import recovery_kit
from seawall.protection.banks.file import FileBank
from seawall.repository import Repository
from seawall.sdk.bank import SubBank
from tests.crash.ground import EVERY_S, LIVE, Ground, database_rows

_ENDED = ("state", "ended_at", "result", "error", "attempt", "reason")


class Invariants:
    """Watches one installation through all its cuts."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._seen: dict[str, Json] = {}
        self._fired_through = 0
        self._repository: Repository | None = None

    def check(self) -> None:
        """Wait until all that was begun before is finished, then look. The service runs.

        ``PowerCutError`` when it is cut meanwhile; the next check then sees what both cuts have left.
        """
        ground = self._ground
        self._settle()
        ground.assert_restored()
        fired_through = self._claimed()
        runs = self._runs()
        self._check_runs(runs)
        self._check_due_times(runs, fired_through)
        self._check_rows()
        self._check_bank()
        # Whatever is cut from here on has not been cut before.
        ground.cuts = 0

    # --- waiting -----------------------------------------------------------------------------

    def _settle(self) -> None:
        ground = self._ground
        for service in ground.call("GET", "/services")["services"]:
            if service["status"] == "disabled":
                ground.call("PUT", f"/services/{service['id']}", {"status": "enabled"})
        ((newest,),) = ground.rows("SELECT coalesce(max(row), 0) FROM runs")
        query = f"SELECT id FROM runs WHERE row <= ? AND state IN {LIVE}"
        ground.until("what was cut to be finished", lambda: None if ground.rows(query, newest) else True)

    def _claimed(self) -> int:
        """Until when all due times have been claimed; not long ago, and never earlier than before (I1)."""
        ground = self._ground
        query = "SELECT fired_through_at FROM triggers WHERE id = ? AND fired_through_at > ?"
        recent = int((ground.clock.now() - timedelta(seconds=2 * EVERY_S)).timestamp() * 1_000_000)
        ((fired_through,),) = ground.until(
            "what is due to be claimed", lambda: ground.rows(query, ground.trigger["id"], recent) or None
        )
        assert fired_through >= self._fired_through, "I1: fired_through only grows"
        self._fired_through = fired_through
        return int(fired_through)

    # --- runs ----------------------------------------------------------------------------------

    def _runs(self) -> list[Json]:
        found: list[Json] = []
        marker = None
        while True:
            page = self._ground.call("GET", "/runs", limit=1000, **({"marker": marker} if marker else {}))
            found += page["runs"]
            if not page.get("runs_links"):
                return found
            marker = page["runs"][-1]["id"]

    def _check_runs(self, runs: list[Json]) -> None:
        keys = Counter((run["subject_id"], run["kind"], run["occurrence"]) for run in runs)
        assert [key for key, count in keys.items() if count > 1] == [], "I1"
        failed = [run for run in runs if run["state"] == "failed" and not self._was_broken(run)]
        assert failed == [], f"a cut is no failure: {failed}"
        for run in runs:
            if run["state"] in LIVE or run["gap_count"]:
                continue
            former = self._seen.setdefault(run["id"], run)
            for name in _ENDED:
                assert former[name] == run[name], f"I1: an ended run has changed: {former} {run}"

    def _was_broken(self, run: Json) -> bool:
        """Whether it failed because a test had put something else in the place of its bank."""
        error = run["error"] or {}
        return error.get("code") == "bank_unavailable" and str(self._ground.frail) in error["message"]

    def _check_due_times(self, runs: list[Json], fired_through: int) -> None:
        """Every due time of the operation has one row, or lies in one gap."""
        ground = self._ground
        accounted: Counter[datetime] = Counter()
        every = timedelta(seconds=EVERY_S)
        for run in runs:
            if run["scheduled_operation_id"] != ground.operation["id"] or run["kind"] != "scheduled":
                continue
            if run["gap_count"]:
                first, last = (datetime.fromisoformat(run[name]) for name in ("gap_first_at", "gap_last_at"))
                times = due_times(ground.first_due, every, first - timedelta(microseconds=1), last)
                assert len(times) == run["gap_count"], run
                accounted.update(times)
            else:
                accounted[datetime.fromisoformat(run["expected_at"])] += 1
        assert [at for at, count in accounted.items() if count > 1] == [], "I1: doubled"
        until = datetime.fromtimestamp(fired_through // 1_000_000, UTC)
        due = due_times(ground.first_due, every, ground.registered, until)
        assert [at for at in due if at not in accounted] == [], "I1: lost"

    # --- rows ------------------------------------------------------------------------------------

    def _check_rows(self) -> None:
        """Nothing is left behind of what has ended: no half-made rows, no leases (I3, I4)."""
        ended = "run_id IN (SELECT id FROM runs WHERE ended_at IS NOT NULL)"
        left = {
            "checkpoints": f"SELECT id, reason FROM checkpoints WHERE status = 'protecting' AND {ended}",
            "restores": f"SELECT id, reason FROM restores WHERE status = 'in_progress' AND {ended}",
            "deletes": "SELECT id, reason FROM checkpoints WHERE status = 'deleting'"
            " AND scheduled_operation_id IS NULL"
            f" AND id NOT IN (SELECT subject_id FROM runs WHERE state IN {LIVE})",
            "leases of runs": "SELECT id, state FROM runs WHERE ended_at IS NOT NULL"
            " AND (lease_until_at IS NOT NULL OR service_row IS NOT NULL)",
            "leases of readers": "SELECT name, holder FROM leases WHERE name LIKE 'checkpoint:%' AND"
            f" replace(holder, '-', '') NOT IN (SELECT 'run:' || id FROM runs WHERE state IN {LIVE})",
        }
        for what, query in left.items():
            # The clean-up, which comes round twice a second, may have to end them.
            self._ground.until(f"no {what} to be left behind", partial(self._is_none, query))
        foreign = "SELECT * FROM pragma_foreign_key_check"
        assert self._ground.rows(foreign) == []

    def _is_none(self, query: str) -> bool | None:
        return None if self._ground.rows(query) else True

    # --- the bank --------------------------------------------------------------------------------

    def _opened(self) -> Repository:
        """The repository of the plan, opened with the recovery kit and nothing else (I9)."""
        if self._repository is None:
            query = "SELECT repository_id FROM checkpoints WHERE plan_id = ? AND status = 'available' LIMIT 1"
            ((found,),) = self._ground.until(
                "the first backup", lambda: self._ground.rows(query, self._ground.plan["id"]) or None
            )
            bank = SubBank(FileBank(path=str(self._ground.data / "bank")), found)
            key = kit_key(self._ground.data, found)
            self._repository = Repository.open(bank, password=key, now=self._ground.clock.now())
        return self._repository

    def _check_bank(self) -> None:
        """One snapshot for each checkpoint, one checkpoint for each run; what is available is there (I5)."""
        repository = self._opened()
        query = "SELECT id, status, snapshot_id, run_id FROM checkpoints WHERE provider_id = ?"
        before = self._ground.rows(query, self._ground.plan["provider_id"])
        snapshots = repository.snapshots()
        after = {one[0]: one for one in self._ground.rows(query, self._ground.plan["provider_id"])}
        tags = Counter(tag for one in snapshots for tag in one.tags)
        assert [t for t, n in tags.items() if n > 1 and t.startswith(("run:", "checkpoint:"))] == [], "I5"
        there = {one.id: one for one in snapshots}
        available = [row for row in before if row[1].startswith("available") and after.get(row[0]) == row]
        for checkpoint_id, _, snapshot_id, run_id in available:
            assert snapshot_id in there, f"I5: the snapshot of checkpoint {checkpoint_id} is gone"
            assert {f"checkpoint:{checkpoint_id}", f"run:{run_id}"} <= set(there[snapshot_id].tags), "I5"
        for row in after.values():
            if row[1] == "deleted" and row in before:
                assert row[2] not in there, f"I5: checkpoint {row[0]} is deleted, its snapshot is there"
        assert any(row[1] == "available" for row in before), "I6: the newest clean checkpoint always stays"

    # --- the end -----------------------------------------------------------------------------------

    def check_whole(self) -> None:
        """At the end: the newest backup comes back alike; neither we nor restic find fault with the banks."""
        ground = self._ground
        body = {"scheduled_operation": {"enabled": False}}
        ground.call("PUT", f"/scheduled_operations/{ground.operation['id']}", body)
        self._settle()
        self._check_row_count()
        made = ground.back_up(ground.plan)
        assert ground.ended(made) == "available"
        folder, database = ground.sources_of(ground.plan)
        before = photograph(folder), database_rows(database)
        ground.restore(ground.plan, made, None)
        ground.assert_restored()
        assert (photograph(folder), database_rows(database)) == before
        assert ground.rows("PRAGMA integrity_check") == [("ok",)]
        for repository_id, place in banks(ground).items():
            assert ground.command("repository", "check", "--read-data", "--repository", repository_id) == 0
            if shutil.which("restic"):
                restic_check(place / repository_id, kit_key(ground.data, repository_id), ground.folder)

    def _check_row_count(self) -> None:
        """What the schedule made, retention has kept at two (I6)."""
        query = "SELECT count(*) FROM checkpoints WHERE scheduled_operation_id = ? AND status = 'available'"
        wanted = [(2,)]
        self._ground.until(
            "retention to keep two",
            lambda: self._ground.rows(query, self._ground.operation["id"]) == wanted or None,
        )


def kit_key(data: Path, repository_id: str) -> str:
    """The recovery key of a repository, from the kit that a person would have kept."""
    found = recovery_kit.parse((data / "recovery-kit.txt").read_text())
    return next(one.key for one in found if one.repository_id == repository_id)


def banks(ground: Ground) -> dict[str, Path]:
    """Repository id -> the folder of its bank, of those that have been made."""
    providers = {ground.plan["provider_id"]: ground.data / "bank", ground.own["provider_id"]: ground.frail}
    query = "SELECT id, provider_id FROM repositories WHERE format_id IS NOT NULL"
    return {one: providers[provider] for one, provider in ground.rows(query) if provider in providers}


def restic_check(repository: Path, key: str, folder: Path) -> None:
    password = folder / "restic-password"
    password.touch(mode=0o600)
    password.write_text(key)
    done = subprocess.run(
        [
            "restic",
            "-r",
            repository,
            "-p",
            password,
            "--no-cache",
            "--no-lock",
            "check",
            "--read-data",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no errors were found" in done.stdout
