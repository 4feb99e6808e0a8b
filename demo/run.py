# SPDX-License-Identifier: Apache-2.0
"""The story of ``make demo``. Exit 0 only when everything below was seen to be true.

``DIR=...`` chooses the directory to protect (it is copied first: the demo deletes data); ``KEEP=1`` leaves
the service running at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import ledger
from demo.evidence import differences, due_times, photograph
from demo.service import DemoError, Json, Seawall, free_port, run_seawall, wait_until

EVERY_S = 4
KEEP = 2
# What arrives in the source before the kill: enough that its backup writes many packs.
NEW_FILES_MIB = 160

OPERATION_FILE = '''\
from pathlib import Path


class Postcard:
    """Writes a postcard: dropped into the folder while Seawall runs."""

    operation_type = "postcard"
    definition_schema = {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
        "additionalProperties": False,
    }

    def run(self, definition, context):
        context.log("info", "writing a postcard")
        Path(definition["path"]).write_text(f"due {context.expected_at.isoformat()} as {context.run_type}\\n")
        return {"written": definition["path"]}
'''

console = Console(highlight=False, soft_wrap=True)


def chapter(title: str) -> None:
    console.print(f"\n[bold cyan]== {title}")


def say(text: str) -> None:
    console.print(f"   {text}")


def expect(is_true: bool, otherwise: str) -> None:
    if not is_true:
        raise DemoError(otherwise)


def instant(text: str) -> datetime:
    """An API time; naive ones are UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Story:
    """What the chapters share."""

    def __init__(self, folder: Path, chosen: Path) -> None:
        self.folder = folder
        self.chosen = chosen
        self.source = folder / "source"
        self.database = folder / "ledger.db"
        self.data = folder / "seawall"
        self.seawall = Seawall(self.data, free_port())
        self.writer: ledger.Writer | None = None
        self.plan: Json = {}
        self.trigger: Json = {}
        self.operation: Json = {}
        self.figures: dict[str, str] = {}

    # --- asking ------------------------------------------------------------------------------

    def runs(self, operation_id: str | None = None) -> list[Json]:
        """All runs of the scheduled operation, oldest due time first."""
        wanted = operation_id or self.operation["id"]
        answer = self.seawall.call("GET", "/runs", scheduled_operation_id=wanted, limit=1000)
        return sorted(answer["runs"], key=lambda run: instant(run["expected_at"]))

    def checkpoints(self) -> list[Json]:
        answer = self.seawall.call(
            "GET", f"/providers/{self.plan['provider_id']}/checkpoints", plan_id=self.plan["id"]
        )
        return [one for one in answer["checkpoints"] if one["status"].startswith("available")]

    def checkpoint_of(self, run: Json) -> str:
        return str(run["result"]["checkpoint_id"])

    # --- chapters ----------------------------------------------------------------------------

    def prepare(self) -> None:
        chapter("Real files and a busy database")
        shutil.copytree(
            self.chosen,
            self.source,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "test", "tests"),
        )
        files = [path for path in self.source.rglob("*") if path.is_file() and not path.is_symlink()]
        expect(bool(files), f"{self.chosen} holds no files")
        (self.source / "link to the first").symlink_to(files[0].relative_to(self.source))
        os.link(files[0], self.source / "hard link")
        (self.source / "odd\nname \udcff").write_bytes(b"names need not be text\n")
        size = sum(path.stat().st_size for path in files)
        say(f"{len(files):,} files, {size / 2**20:.0f} MiB, copied from {self.chosen}")
        ledger.create(self.database)
        self.writer = ledger.Writer(self.database)
        self.writer.start()
        say("a SQLite database that a writer changes about 200 times a second")

    def start(self) -> None:
        chapter("seawall serve")
        self.data.mkdir(mode=0o700)
        (self.data / "seawall.yaml").write_text("min_interval_s: 2\ncleanup_interval_s: 2\n")
        took = self.seawall.start()
        say(f"ready after {took:.1f} s; made a provider, a bank, a project, a token and a recovery kit")
        console.print(self.seawall.cli("service", "list"))

    def schedule(self) -> None:
        chapter(f"Say it once: these two, every {EVERY_S} s, keep {KEEP}")
        provider = self.seawall.call("GET", "/providers")["providers"][0]
        resources = [
            {"type": "directory", "id": str(self.source), "name": "files"},
            {"type": "sqlite", "id": str(self.database), "name": "ledger"},
        ]
        body: Json = {"name": "demo", "provider_id": provider["id"], "resources": resources, "parameters": {}}
        self.plan = self.seawall.call("POST", "/plans", {"plan": body})["plan"]
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        properties = {
            "format": "interval",
            "pattern": str(EVERY_S),
            "start_time": start.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self.trigger = self.seawall.call(
            "POST",
            "/triggers",
            {"trigger_info": {"name": f"every {EVERY_S} s", "type": "time", "properties": properties}},
        )["trigger_info"]
        self.operation = self.seawall.call(
            "POST",
            "/scheduled_operations",
            {
                "scheduled_operation": {
                    "name": "demo",
                    "operation_type": "retention_protect",
                    "trigger_id": self.trigger["id"],
                    "operation_definition": {
                        "provider_id": provider["id"],
                        "plan_id": self.plan["id"],
                        "max_backups": KEEP,
                    },
                }
            },
        )["scheduled_operation"]
        self.registered = datetime.now(UTC)
        self.start_time = start

    def watch(self) -> None:
        chapter("It fires, backs up and cleans up by itself")
        seen: dict[str, str] = {}

        def three_ended() -> bool | None:
            for run in self.runs():
                if run["state"] != seen.get(run["id"]):
                    seen[run["id"]] = run["state"]
                    say(self.words(run))
                if run["state"] == "failed":
                    raise DemoError(f"run {run['id']} failed: {run['error']}")
            ended = [run for run in self.runs() if run["state"] == "success"]
            return True if len(ended) > KEEP else None

        wait_until("three backups", three_ended, timeout_s=60)
        ended = [run for run in self.runs() if run["state"] == "success"]
        late = [
            (instant(run["started_at"]) - instant(run["expected_at"])).total_seconds() for run in ended[:3]
        ]
        self.figures["started after the due time"] = f"{max(late) * 1000:.0f} ms at the most"
        first = self.checkpoint_of(ended[0])

        def cleaned() -> bool | None:
            present = [one["id"] for one in self.checkpoints()]
            return True if first not in present and len(present) <= KEEP + 1 else None

        wait_until("the clean-up of the oldest checkpoint", cleaned, timeout_s=30)
        say(f"automatic clean-up: the oldest checkpoint, {first[:8]}, is gone; {KEEP} are kept")
        console.print(self.seawall.cli("checkpoint", "list"))

    def words(self, run: Json) -> str:
        due = instant(run["expected_at"]).strftime("%H:%M:%S")
        text = f"due {due}  run {run['id'][-8:]}  {run['state']}"
        if run["state"] == "success":
            took = (instant(run["ended_at"]) - instant(run["started_at"])).total_seconds()
            result: Json = run["result"] or {}
            added = result.get("added_bytes", 0) / 2**20
            text += f" after {took:.2f} s: {result.get('items', 0):,} items, {added:.1f} MiB new on the bank"
        elif run["reason"]:
            text += f" ({run['reason']})"
        return text

    def cut_the_power(self) -> None:
        chapter("SIGKILL everything in the middle of a backup")
        known = {run["id"] for run in self.runs()}
        arrivals = self.source / "new arrivals"
        self._bring(arrivals)
        say(f"{sum(f.stat().st_size for f in arrivals.rglob('*') if f.is_file()) / 2**20:.0f} MiB arrive")
        begun = time.time()

        def torn() -> Json | None:
            live = [run for run in self.runs() if run["state"] == "in_progress" and run["id"] not in known]
            packs = [
                path
                for path in (self.data / "bank").rglob("data/*/*")
                if path.is_file() and path.stat().st_mtime >= begun
            ]
            return live[-1] if live and packs else None

        run = wait_until("a backup with a pack on the bank", torn, timeout_s=40)
        self.seawall.kill()
        self.killed = run["id"]
        say(f"killed in the middle of run {run['id'][-8:]}: a pack of it is on the bank, no snapshot")
        took = self.seawall.start()
        say(f"started again in {took:.1f} s")

        def finished() -> Json | None:
            found = self.seawall.call("GET", f"/runs/{run['id']}")["run"]
            if found["state"] in ("queued", "in_progress"):
                return None
            return dict(found)

        found = wait_until("the killed run to finish", finished, timeout_s=60)
        expect(found["state"] == "success", f"the killed run ended as {found['state']}: {found['error']}")
        expect(found["attempt"] > 1, "the killed run had ended before it was killed")
        say(f"{self.words(found)}, attempt {found['attempt']}")

    def _bring(self, arrivals: Path) -> None:
        """Real files that are new: what this Python has installed, until it is enough."""
        arrivals.mkdir()
        brought = 0
        for package in sorted(Path(sysconfig.get_path("purelib")).iterdir()):
            if brought > NEW_FILES_MIB * 2**20:
                break
            if package.is_dir():
                shutil.copytree(package, arrivals / package.name, symlinks=True)
                brought += sum(f.stat().st_size for f in package.rglob("*") if f.is_file())

    def account(self) -> None:
        chapter("Every due time is accounted for, exactly once")
        self.seawall.call(
            "PUT",
            f"/scheduled_operations/{self.operation['id']}",
            {"scheduled_operation": {"enabled": False}},
        )
        until = datetime.now(UTC)
        wait_until(
            "the running backup to end",
            lambda: (
                None
                if any(run["state"] in ("queued", "in_progress", "cancelling") for run in self.runs())
                else True
            ),
        )
        accounted: list[datetime] = []
        gaps = 0
        for run in self.runs():
            if run.get("gap_count"):
                gaps += run["gap_count"]
                accounted += due_times(
                    self.start_time,
                    timedelta(seconds=EVERY_S),
                    instant(run["gap_first_at"]) - timedelta(microseconds=1),
                    instant(run["gap_last_at"]),
                )
            else:
                accounted.append(instant(run["expected_at"]))
        due = due_times(self.start_time, timedelta(seconds=EVERY_S), self.registered, until)
        # A due time in the very second of registering or disabling may lie on either side.
        slack = {due_time for due_time in due if abs((due_time - until).total_seconds()) < 1}
        lost = [one for one in due if one not in accounted and one not in slack]
        doubled = len(accounted) - len(set(accounted))
        expect(not lost, f"due times without a row: {lost}")
        expect(doubled == 0, f"{doubled} due times have two rows")
        states: dict[str, int] = {}
        for run in self.runs():
            states[run["state"]] = states.get(run["state"], 0) + 1
        words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        say(f"{len(due)} due times recomputed from the schedule: none lost, none doubled ({words})")
        self.figures["due times"] = f"{len(due)}, none lost, none doubled"

    def drop_in(self) -> None:
        chapter("A new operation is one file")
        folder = self.data / "operations"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / "postcard.py"
        path.write_text(OPERATION_FILE)
        path.chmod(0o600)
        card = self.folder / "postcard.txt"
        trigger = self.seawall.call(
            "POST",
            "/triggers",
            {
                "trigger_info": {
                    "name": "soon",
                    "type": "time",
                    "properties": {"format": "interval", "pattern": "2"},
                }
            },
        )["trigger_info"]
        operation = self.seawall.call(
            "POST",
            "/scheduled_operations",
            {
                "scheduled_operation": {
                    "name": "postcard",
                    "operation_type": "postcard",
                    "trigger_id": trigger["id"],
                    "operation_definition": {"path": str(card)},
                }
            },
        )["scheduled_operation"]

        def fired() -> Json | None:
            done = [run for run in self.runs(operation["id"]) if run["state"] == "success"]
            return done[0] if done else None

        run = wait_until("the dropped-in operation to fire", fired, timeout_s=20)
        say(f"{path.name} was found while Seawall ran, and fired: {card.read_text().strip()}")
        expect(run["operation_type"] == "postcard", "another operation ran")
        self.seawall.call("DELETE", f"/scheduled_operations/{operation['id']}")
        self.seawall.call("DELETE", f"/triggers/{trigger['id']}")

    def lose_and_restore(self) -> None:
        chapter("Lose everything, bring it back")
        assert self.writer is not None
        self.writer.stop()
        self.files_before = photograph(self.source)
        self.rows_before = ledger.rows(self.database)
        made = self.seawall.call(
            "POST",
            f"/providers/{self.plan['provider_id']}/checkpoints",
            {"checkpoint": {"plan_id": self.plan["id"]}},
        )["checkpoint"]
        self.last = wait_until("the last backup", lambda: self._ended_checkpoint(made["id"]))
        shutil.rmtree(self.source)
        for path in self.folder.glob("ledger.db*"):
            path.unlink()
        say(f"deleted {len(self.files_before):,} entries and the database")
        begun = time.monotonic()
        self._restore(self.seawall, None)
        self.figures["restore"] = (
            f"{len(self.files_before):,} entries and {len(self.rows_before):,} rows "
            f"in {time.monotonic() - begun:.1f} s, all alike"
        )
        self._compare(self.source, self.database)

    def _ended_checkpoint(self, checkpoint_id: str) -> Json | None:
        found = self.seawall.call("GET", f"/providers/{self.plan['provider_id']}/checkpoints/{checkpoint_id}")
        one: Json = found["checkpoint"]
        if one["status"] == "protecting":
            return None
        expect(one["status"] == "available", f"checkpoint {checkpoint_id} is {one['status']}: {one}")
        return one

    def _restore(self, seawall: Seawall, target: Path | None) -> None:
        body = {
            "provider_id": self.plan["provider_id"],
            "checkpoint_id": self.last["id"],
            "restore_target": str(target) if target else None,
            "parameters": {},
        }
        restore = seawall.call("POST", "/restores", {"restore": body})["restore"]

        def ended() -> Json | None:
            found: Json = seawall.call("GET", f"/restores/{restore['id']}")["restore"]
            return None if found["status"] == "in_progress" else found

        found = wait_until("the restore", ended)
        expect(found["status"] == "success", f"the restore failed: {found}")

    def _compare(self, files: Path, database: Path) -> None:
        found = differences(self.files_before, photograph(files))
        expect(not found, "the restored files are not the same:\n  " + "\n  ".join(found))
        transfers = ledger.audit(database)
        expect(ledger.rows(database) == self.rows_before, "the restored database has other rows")
        say(
            f"every byte, mode, owner, time, link and attribute of {len(self.files_before):,} entries is back"
        )
        say(f"the database is whole: {transfers:,} transfers, every row as it was")

    def recover(self) -> None:
        chapter("Lose the server too: only the bank and the recovery key are left")
        kit = self.data / "recovery-kit.txt"
        expect(kit.stat().st_mode & 0o777 == 0o600, "others can read the recovery kit")
        self.seawall.stop()
        bank = self.folder / "rescued bank"
        shutil.copytree(self.data / "bank", bank)
        saved_kit = self.folder / "recovery-kit.txt"
        shutil.copy(kit, saved_kit)
        fresh = self.folder / "fresh"
        output = run_seawall(["recover", "--bank", str(bank), "--key", str(saved_kit)], fresh)
        console.print(output.strip())
        second = Seawall(fresh, free_port())
        second.start()
        try:
            plans = second.call("GET", "/plans")["plans"]
            operations = second.call("GET", "/scheduled_operations")["operations"]
            expect([plan["id"] for plan in plans] == [self.plan["id"]], f"recovered plans: {plans}")
            expect(
                self.operation["id"] in [one["id"] for one in operations],
                f"the schedule was not recovered: {operations}",
            )
            target = self.folder / "restored on the new server"
            target.mkdir()
            self._restore(second, target)
            self._compare(*self._parts(target))
        finally:
            second.stop()

    def _parts(self, target: Path) -> tuple[Path, Path]:
        """Where a restore to another place has put the files and the database."""
        database = next(iter(target.rglob("ledger.db")), None)
        files = next((p.parent for p in target.rglob("hard link")), None)
        if database is None or files is None:
            raise DemoError(f"{target} holds {sorted(p.name for p in target.iterdir())}")
        return files, database

    def audit_bank(self) -> None:
        chapter("Let restic check the bank")
        repositories = [path.parent for path in (self.data / "bank").rglob("config")]
        expect(len(repositories) == 1, f"the bank holds {len(repositories)} repositories")
        key = run_seawall(["recovery-kit", "key"], self.data).strip()
        shown = f"restic -r {repositories[0]}"
        if shutil.which("restic") is None:
            say("restic is not installed here: skipped (the format is restic's; any restic will do)")
            return
        password = self.folder / "restic-password"
        password.touch(mode=0o600)
        password.write_text(key)
        arguments = ["--repo", str(repositories[0]), "--password-file", str(password), "--no-cache"]
        for command in (["check", "--read-data"], ["snapshots", "--json", "--tag", f"run:{self.killed}"]):
            done = subprocess.run(
                ["restic", *arguments, *command], capture_output=True, text=True, check=False
            )
            expect(done.returncode == 0, f"{shown} {command}: {done.stdout}{done.stderr}")
        say(f"{shown} check --read-data: no errors were found")
        password.unlink()

    def one_snapshot(self) -> None:
        """The killed run has made exactly one snapshot, seen on the bank itself."""
        output = run_seawall(
            ["repository", "snapshots", "--tag", f"run:{self.killed}", "-o", "json"], self.data
        )
        found: list[Any] = json.loads(output)
        expect(len(found) == 1, f"the killed run has {len(found)} snapshots on the bank")
        say(f"exactly one snapshot on the bank is of run {self.killed[-8:]}: {found[0]['id'][:8]}")


def tell(folder: Path, chosen: Path) -> None:
    begun = time.monotonic()
    story = Story(folder, chosen)
    try:
        story.prepare()
        story.start()
        story.schedule()
        story.watch()
        story.cut_the_power()
        story.one_snapshot()
        story.account()
        story.drop_in()
        story.lose_and_restore()
        story.recover()
        story.audit_bank()
    except BaseException:
        story.seawall.kill()
        raise
    story.figures["the whole story"] = f"{time.monotonic() - begun:.0f} s"
    chapter("What happened")
    for name, value in story.figures.items():
        say(f"{name}: {value}")
    if os.environ.get("KEEP", "") in ("", "0"):
        return
    story.seawall.start()
    chapter(f"Still running; look around with: SEAWALL_DATA_DIR={story.data} seawall checkpoint list")
    say("Ctrl-C ends it")
    try:
        signal.pause()
    except KeyboardInterrupt:
        story.seawall.stop()


def main() -> int:
    chosen = Path(os.environ.get("DIR") or sysconfig.get_path("stdlib")).resolve()
    if not chosen.is_dir():
        console.print(f"[red]DIR={chosen} is not a directory")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="seawall-demo-"))
    console.print(f"[bold]Seawall at work[/bold] in {folder}")
    try:
        tell(folder, chosen)
    except DemoError as error:
        console.print(f"\n[bold red]FAILED:[/bold red] {error}")
        console.print(f"left for a look: {folder}")
        return 1
    if os.environ.get("KEEP", "") in ("", "0"):
        shutil.rmtree(folder)
        console.print("\n[bold green]Everything came back.[/bold green] The demo's folder is removed.")
    else:
        console.print(f"\nIts data stays in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
