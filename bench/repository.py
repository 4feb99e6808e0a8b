# SPDX-License-Identifier: Apache-2.0
"""The repository engine beside restic, borg, ``tar | zstd`` and ``cp -a``, on the same files.

    python -m bench.repository

Sides take turns, ``BENCH_ROUNDS`` (3) times, medians count. All write to a local folder. Each act of the
others is a process of its own; their CPU seconds are those of the whole process. Ours run in one process that
has the repository open, as a mover has, and an act is charged with all CPU seconds that the process uses
meanwhile, of all threads. ``...cold`` says what a ratio would be with a process for each act: start, imports
and key derivation (``repository.open.seawall.cpu_s``) added.

``BENCH_MIB`` (2048) of this machine's own files are the mixed source, half of them the one of
``mixed_1gib_cpu_ratio``; ``BENCH_TINY`` (100,000) files of up to 4 KiB, a dump of ``BENCH_DUMP_MIB`` (256),
and ``BENCH_MILLION`` (1,000,000) files of up to 200 bytes, in folders of a thousand and then in a single one,
are further ones (0 leaves one out). It takes 10 GiB of ``TMPDIR`` and about 20 minutes of a quiet machine
with two cores: 4 for a round, 3 for each million.

A ratio is ours divided by restic's: CPU seconds, wall time, bytes stored, bytes added. ``prune``: a snapshot
of every other folder stays, and no unused space. ``small_backup_ms``: five small files, wall time without the
disk (a bank in memory). ``peak_rss_mib``: our process over all acts but those on a million files, which are a
first backup, an unchanged one and a check in one process. Without restic only ours are printed. Lines without
a goal say what each side used.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import repository_sources as sources
from bench.figure import show, tell
from seawall.protection.banks.file import FileBank
from seawall.protection.banks.memory import MemoryBank
from seawall.protection.movers.pool import ALLOCATOR
from seawall.repository import Repository

MIXED_BYTES = int(os.environ.get("BENCH_MIB", "2048")) * 1024**2
TINY_FILES = int(os.environ.get("BENCH_TINY", "100000"))
DUMP_BYTES = int(os.environ.get("BENCH_DUMP_MIB", "256")) * 1024**2
MILLION_FILES = int(os.environ.get("BENCH_MILLION", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SMALL_ROUNDS = 51
PASSWORD = "bench"
RATIOS = (
    ("repository.mixed_2gib.cpu_ratio", "mixed", "cpu_s", 1.0),
    ("repository.mixed_2gib.wall_ratio", "mixed", "wall_s", 1.0),
    ("repository.mixed_1gib_cpu_ratio", "half", "cpu_s", 1.0),
    ("repository.tiny_100k.cpu_ratio", "tiny", "cpu_s", 1.5),
    ("repository.unchanged.cpu_ratio", "unchanged", "cpu_s", 1.0),
    ("repository.unchanged_cpu_ratio", "unchanged", "cpu_s", 1.0),
    ("repository.restore.cpu_ratio", "restore", "cpu_s", 1.0),
    ("repository.check_data.cpu_ratio", "check_data", "cpu_s", 0.8),
    ("repository.prune.cpu_ratio", "prune", "cpu_s", 0.6),
    ("repository.size_ratio", "size", "bytes", 1.03),
    ("repository.dump_1pct.added_ratio", "dump", "bytes", 0.25),
)


class Unlocked:
    """The lock of a bench that is alone."""

    def is_expired(self, now: datetime) -> bool:
        return False


# --- our side, within its process --------------------------------------------------------------------


class Acts:
    """What a mover does, one act for each line that it is sent."""

    def __init__(self) -> None:
        self._opened: Repository

    def open(self, place: str) -> None:
        bank, now = FileBank(path=place), datetime.now(UTC)
        self._opened = Repository.open(bank, password=PASSWORD, now=now)

    def save(self, path: str, parent: str | None = None) -> str:
        now = datetime.now(UTC)
        with self._opened.writer(Unlocked()) as writer:
            tree = writer.save_path(Path(path), parent_tree=parent).tree_id
            writer.commit(tree, hostname="bench", username="bench", paths=[path], tags=[], time=now)
        return tree

    def dump(self, path: str) -> None:
        now = datetime.now(UTC)
        with self._opened.writer(Unlocked()) as writer, Path(path).open("rb") as file:
            node = writer.save_stream("dump", iter(lambda: file.read(65536), b""))
            tree = writer.save_nodes([node])
            writer.commit(tree, hostname="bench", username="bench", paths=[path], tags=[], time=now)

    def restore(self, target: str) -> None:
        result = self._opened.restore(self._opened.snapshots()[-1].tree, Path(target))
        if result.faults:
            raise SystemExit(f"restore: {result.faults[0]}")

    def check(self) -> None:
        if faults := self._opened.check():
            raise SystemExit(f"check: {faults[0]}")

    def check_data(self) -> None:
        if faults := self._opened.check(read_data=True):
            raise SystemExit(f"check: {faults[0]}")

    def prune(self) -> None:
        for one in self._opened.snapshots()[:-1]:
            self._opened.forget(one.id)
        now = datetime.now(UTC)
        lock = self._opened.lock(now=now, exclusive=True)
        self._opened.prune(lock, clock=lambda: now, max_unused=0.0)
        lock.release()


def serve() -> None:
    """Carry out acts until the pipe closes; for each, what it gave and what this process used."""
    acts = Acts()
    for line in sys.stdin:
        name, *words = json.loads(line)
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        result = getattr(acts, name)(*words)
        wall, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        if name != "open":  # which is charged with the start of the process too
            cpu -= before.ru_utime + before.ru_stime
        answer = {"result": result, "cpu_s": cpu, "wall_s": wall, "rss_mib": used.ru_maxrss / 1024}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


# --- all sides ---------------------------------------------------------------------------------------


class Sides:
    """What every side has used so far, by act."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.has = {name: shutil.which(name) is not None for name in ("restic", "borg", "zstd", "tar")}
        self.figures: dict[tuple[str, str, str], list[float]] = {}
        self._process: subprocess.Popen[str] | None = None

    def place(self, side: str) -> Path:
        return self.scratch / f"repository-{side}"

    def add(self, side: str, act: str, **values: float) -> None:
        for kind, value in values.items():
            self.figures.setdefault((side, act, kind), []).append(value)

    def median(self, side: str, act: str, kind: str) -> float | None:
        found = self.figures.get((side, act, kind))
        return statistics.median(found) if found else None

    @contextmanager
    def ours(self) -> Iterator[None]:
        """A new repository, and a process that has it open."""
        Repository.init(
            FileBank(path=str(self.place("seawall"))), passwords=[PASSWORD], now=datetime.now(UTC)
        )
        command = [sys.executable, "-m", "bench.repository", "serve"]
        environment = {**os.environ, **ALLOCATOR}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            self._process = process
            try:
                self.act("open", "open", str(self.place("seawall")))
                yield
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait()
        shutil.rmtree(self.place("seawall"))

    def act(self, act: str, name: str, *words: str | None) -> Any:
        """One act of ours; what it gave."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *words]) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        self.add("seawall", act, cpu_s=found["cpu_s"], wall_s=found["wall_s"], rss_mib=found["rss_mib"])
        return found["result"]

    def run(self, side: str, act: str, *command: str, cwd: Path | None = None) -> None:
        """One act of another side, as a process."""
        begun = time.perf_counter()
        environment = {**os.environ, **self._environment()}
        with subprocess.Popen(
            command, env=environment, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{command} ended with {process.returncode}")
        self.add(side, act, cpu_s=used.ru_utime + used.ru_stime, wall_s=time.perf_counter() - begun)

    def _environment(self) -> Mapping[str, str]:
        return {
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": str(self.place("restic")),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_REPO": str(self.place("borg")),
            "BORG_BASE_DIR": str(self.scratch / "borg-home"),
        }

    def restic(self, act: str, *words: str) -> None:
        if self.has["restic"]:
            self.run("restic", act, "restic", "--no-cache", "--quiet", *words)

    def borg(self, act: str, *words: str, cwd: Path | None = None) -> None:
        if self.has["borg"]:
            self.run("borg", act, "borg", *words, cwd=cwd)

    def show(self) -> None:
        """Every figure with its goal, then what each side used."""
        for figure, act, kind, goal in RATIOS:
            ours, theirs = self.median("seawall", act, kind), self.median("restic", act, kind)
            if ours is not None and theirs:
                ratio = ours / theirs
                show(figure, ratio, "ratio", goal, peer="restic", peer_value=theirs, ratio=ratio)
            if kind == "cpu_s" and ours is not None and theirs:
                tell(f"{figure}.cold", (ours + (self.median("seawall", "open", kind) or 0)) / theirs)
        rss = [
            max(found)
            for (_, act, kind), found in self.figures.items()
            if kind == "rss_mib" and not act.startswith("million")
        ]
        if rss:
            show("repository.peak_rss_mib", max(rss), "MiB", 300)
        million = {
            act: max(found)
            for (_, act, kind), found in self.figures.items()
            if kind == "rss_mib" and act.startswith("million")
        }
        if million:
            show("repository.peak_rss_mib.million_files", max(million.values()), "MiB", 300)
        for act, peak in million.items():
            tell(f"repository.peak_rss_mib.{act}", peak)
        for (side, act, kind), found in sorted(self.figures.items(), key=lambda one: (one[0][1:], one[0][0])):
            if kind != "rss_mib":
                tell(f"repository.{act}.{side}.{kind}", statistics.median(found))


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _mixed(sides: Sides, source: Path) -> None:
    """Every act on the mixed files, sides taking turns."""
    target = sides.scratch / "target"
    with sides.ours():
        sides.restic("init", "init", "--repository-version", "2")
        sides.borg("init", "init", "--encryption", "repokey")
        tree = sides.act("mixed", "save", str(source))
        sides.restic("mixed", "backup", str(source))
        sides.borg("mixed", "create", "--compression", "zstd,3", "::first", str(source))
        for side in ("seawall", "restic", "borg"):
            if sides.place(side).exists():
                sides.add(side, "size", bytes=_size(sides.place(side)))
        sides.act("unchanged", "save", str(source), tree)
        sides.restic("unchanged", "backup", str(source))
        sides.borg("unchanged", "create", "--compression", "zstd,3", "::second", str(source))
        sides.act("restore", "restore", str(_fresh(target)))
        _fresh(target)
        sides.restic("restore", "restore", "latest", "--target", str(target))
        _fresh(target)
        sides.borg("restore", "extract", "::second", cwd=target)
        shutil.rmtree(target)
        sides.act("check_data", "check_data")
        sides.restic("check_data", "check", "--read-data")
        sides.borg("check_data", "check", "--verify-data")
        _prune(sides, source)
    _copies(sides, source, target)
    for side in ("restic", "borg"):
        shutil.rmtree(sides.place(side), ignore_errors=True)


def _prune(sides: Sides, source: Path) -> None:
    """Keep a snapshot of every other folder only, and prune all that the rest had."""
    part = sides.scratch / "part"
    part.mkdir()
    for folder in sorted(source.iterdir())[::2]:
        folder.rename(part / folder.name)
    sides.act("part", "save", str(part))
    sides.restic("part", "backup", str(part))
    sides.restic("forget", "forget", "--keep-last", "1", "--group-by", "host")
    sides.act("prune", "prune")
    sides.restic("prune", "prune", "--max-unused", "0")
    for folder in part.iterdir():
        folder.rename(source / folder.name)
    part.rmdir()


def _copies(sides: Sides, source: Path, target: Path) -> None:
    """What a copy costs without a repository."""
    sides.run("cp", "mixed", "cp", "-a", str(source), str(target))
    shutil.rmtree(target)
    if sides.has["tar"] and sides.has["zstd"]:
        archive = sides.scratch / "archive"
        sides.run(
            "tar_zstd", "mixed", "sh", "-c", f"tar -C '{source}' -cf - . | zstd -q -3 -T2 -o '{archive}'"
        )
        sides.add("tar_zstd", "size", bytes=archive.stat().st_size)
        _fresh(target)
        sides.run("tar_zstd", "restore", "sh", "-c", f"zstd -q -dc '{archive}' | tar -C '{target}' -xf -")
        shutil.rmtree(target)
        archive.unlink()


def _once(sides: Sides, act: str, source: Path) -> None:
    """One first backup of some files by the repositories."""
    with sides.ours():
        sides.restic("init", "init", "--repository-version", "2")
        sides.act(act, "save", str(source))
        sides.restic(act, "backup", str(source))
        if act == "tiny":
            sides.borg("init", "init", "--encryption", "repokey")
            sides.borg(act, "create", "--compression", "zstd,3", "::first", str(source))
    for side in ("restic", "borg"):
        shutil.rmtree(sides.place(side), ignore_errors=True)


def _dump(sides: Sides, first: Path, second: Path) -> None:
    """The bytes that the second version of a dump adds."""
    words = ("sh", "-c", 'restic --no-cache --quiet backup --stdin < "$0"')
    with sides.ours():
        sides.restic("init", "init", "--repository-version", "2")
        for number, path in enumerate((first, second)):
            before = {
                side: _size(sides.place(side)) for side in ("seawall", "restic") if sides.place(side).exists()
            }
            sides.act(f"dump_{number + 1}", "dump", str(path))
            if sides.has["restic"]:
                sides.run("restic", f"dump_{number + 1}", *words, str(path))
            if number:
                for side, size in before.items():
                    sides.add(side, "dump", bytes=_size(sides.place(side)) - size)
    shutil.rmtree(sides.place("restic"), ignore_errors=True)


def _million(sides: Sides, act: str, per_folder: int) -> None:
    """Ours alone, once: what is asked is its memory."""
    source = sides.scratch / "million"
    source.mkdir()
    sources.small_files(source, MILLION_FILES, per_folder=per_folder, largest=200)
    with sides.ours():
        tree = sides.act(act, "save", str(source))
        sides.act(f"{act}_unchanged", "save", str(source), tree)
        sides.act(f"{act}_check", "check")
    shutil.rmtree(source)


def _big(scratch: Path) -> None:
    mixed, half, tiny = scratch / "source", scratch / "half", scratch / "tiny"
    first, second = scratch / "first.sql", scratch / "second.sql"
    for folder in (mixed, half, tiny):
        folder.mkdir()
    tell("repository.mixed.source_mib", sources.real_files(mixed, MIXED_BYTES) / 1024**2)
    sources.real_files(half, MIXED_BYTES // 2)
    sources.small_files(tiny, TINY_FILES)
    if DUMP_BYTES:
        sources.dumps(first, second, DUMP_BYTES)
    sides = Sides(scratch)
    for _ in range(ROUNDS):
        _mixed(sides, mixed)
        _once(sides, "half", half)
        if TINY_FILES:
            _once(sides, "tiny", tiny)
    if DUMP_BYTES:
        _dump(sides, first, second)
    if MILLION_FILES:
        _million(sides, "million", 1000)
        _million(sides, "million_in_one_folder", MILLION_FILES)
    sides.show()


def _small(scratch: Path) -> None:
    source = scratch / "small"
    source.mkdir()
    opened = Repository.init(MemoryBank(), passwords=[PASSWORD], now=datetime.now(UTC))
    walls = []
    for number in range(SMALL_ROUNDS):
        for name in range(5):
            (source / str(name)).write_bytes(os.urandom(2000 + number))
        now = datetime.now(UTC)
        begun = time.perf_counter()
        with opened.writer(Unlocked()) as writer:
            tree = writer.save_path(source).tree_id
            writer.commit(tree, hostname="bench", username="bench", paths=[str(source)], tags=[], time=now)
        walls.append((time.perf_counter() - begun) * 1000)
    show("repository.small_backup_ms", statistics.median(walls), "ms", 30)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as scratch:
        _big(Path(scratch))
        _small(Path(scratch))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
