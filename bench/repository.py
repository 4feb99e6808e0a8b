# SPDX-License-Identifier: Apache-2.0
"""The repository engine as a process, beside restic: CPU seconds and memory for the same files.

    python -m bench.repository

The source is made of this machine's own files (programs, libraries, texts), copied to a scratch folder:
1 GiB, or ``BENCH_MIB``. ``BENCH_TINY`` (100,000) small files are a second one. Both sides write to a local
folder; each act is a whole process, start and key derivation included, so that ours is measured at its worst
(a mover keeps its repository open). Medians of ``BENCH_ROUNDS`` (3), sides taking turns.

``repository.<act>.cpu_ratio``: our CPU seconds, of all threads, divided by restic's, for ``mixed``,
``unchanged``, ``restore``, ``check_data``, ``prune`` (a snapshot of every other folder stays, and no unused
space) and ``tiny``. ``repository.size_ratio``: bytes stored. ``repository.peak_rss_mib``: our largest
process. ``repository.small_backup_ms``: five small files through an open repository, wall time without the
writes to the disk (a bank in memory). Without restic only the last two are printed.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.figure import show
from seawall.protection.banks.file import FileBank
from seawall.protection.banks.memory import MemoryBank
from seawall.repository import Repository

SOURCE_BYTES = int(os.environ.get("BENCH_MIB", "1024")) * 1024**2
LARGEST_BYTES = 64 * 1024**2
TINY_FILES = int(os.environ.get("BENCH_TINY", "100000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SMALL_ROUNDS = 51
PASSWORD = "bench"
GOALS = {
    "mixed": 1.0,
    "unchanged": 1.0,
    "restore": 1.0,
    "check_data": 0.8,
    "prune": 0.6,
    "tiny": 1.5,
}


class Unlocked:
    """The lock of a bench that is alone."""

    def is_expired(self, now: datetime) -> bool:
        return False


def make_source(folder: Path) -> int:
    """Copy 1 GiB of real files into ``folder``; how many bytes it became."""
    total = number = 0
    for root in ("/usr", sys.base_prefix, sys.prefix, "/opt", "/var/lib"):
        for here, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                path = Path(here, name)
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                size = path.stat().st_size
                if size > LARGEST_BYTES:
                    continue
                if total + size > SOURCE_BYTES:
                    return total
                target = folder / f"{number // 100:05}" / f"{number % 100:02}-{name[:100]}"
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
                total, number = total + size, number + 1
    return total


def make_tiny(folder: Path) -> None:
    """Small files of 0 to 4 KiB, a hundred to a folder."""
    noise = random.Random(1)
    for number in range(TINY_FILES):
        target = folder / f"{number // 100:05}" / f"{number % 100:02}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(noise.randbytes(noise.randrange(4096)))


def act(name: str, repository: Path, path: Path, parent: str | None) -> None:
    """One act in this process; prints its tree, CPU seconds and peak memory."""
    now = datetime.now(UTC)
    opened = Repository.open(FileBank(path=str(repository)), password=PASSWORD, now=now)
    tree = ""
    if name == "save":
        with opened.writer(Unlocked()) as writer:
            tree = writer.save_path(path, parent_tree=parent).tree_id
            writer.commit(tree, hostname="bench", username="bench", paths=[str(path)], tags=[], time=now)
    elif name == "restore":
        result = opened.restore(opened.snapshots()[-1].tree, path)
        if result.faults:
            raise SystemExit(f"restore: {result.faults[0]}")
    elif name == "check_data":
        if faults := opened.check(read_data=True):
            raise SystemExit(f"check: {faults[0]}")
    else:
        opened.forget(opened.snapshots()[0].id)
        lock = opened.lock(now=now, exclusive=True)
        opened.prune(lock, clock=lambda: now, max_unused=0.0)
        lock.release()
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime
    print(json.dumps({"tree": tree, "cpu_s": cpu_s, "rss_mib": used.ru_maxrss / 1024}))


class Sides:
    """What both sides have used so far, by act."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.has_peer = shutil.which("restic") is not None
        self.figures: dict[tuple[str, str], list[float]] = {}
        self.rss: list[float] = []

    def add(self, side: str, name: str, value: float) -> None:
        self.figures.setdefault((side, name), []).append(value)

    def ours(self, figure: str, name: str, path: Path, parent: str = "") -> str:
        """One act of ours; the tree that it made."""
        command = [
            sys.executable,
            "-m",
            "bench.repository",
            name,
            str(self.scratch / "ours"),
            str(path),
            parent,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        self.add("ours", figure, found["cpu_s"])
        self.rss.append(found["rss_mib"])
        return str(found["tree"])

    def theirs(self, figure: str, *words: str) -> None:
        """One act of restic."""
        place = str(self.scratch / "theirs")
        environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": place}
        with subprocess.Popen(
            ["restic", "--no-cache", "--quiet", *words], env=environment, stdout=subprocess.DEVNULL
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"restic {words} ended with {process.returncode}")
        self.add("theirs", figure, used.ru_utime + used.ru_stime)

    def show(self) -> None:
        """Every figure so far that has a peer."""
        for name, goal in GOALS.items():
            if ("theirs", name) not in self.figures:
                continue
            ours, theirs = (statistics.median(self.figures[side, name]) for side in ("ours", "theirs"))
            ratio = ours / theirs
            figure = f"repository.{name}.cpu_ratio"
            show(figure, ratio, "ratio", goal, peer="restic", peer_value=theirs, ratio=ratio)
        if sizes := self.figures.get(("theirs", "size")):
            ratio = statistics.median(self.figures["ours", "size"]) / statistics.median(sizes)
            show("repository.size_ratio", ratio, "ratio", 1.03, peer="restic", ratio=ratio)
        show("repository.peak_rss_mib", max(self.rss), "MiB", 300)


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _round(sides: Sides, source: Path, tiny: Path) -> None:
    scratch = sides.scratch
    ours, theirs, target = scratch / "ours", scratch / "theirs", scratch / "target"
    Repository.init(FileBank(path=str(ours)), passwords=[PASSWORD], now=datetime.now(UTC))
    if sides.has_peer:
        sides.theirs("init", "init", "--repository-version", "2")
    tree = sides.ours("mixed", "save", source)
    if sides.has_peer:
        sides.theirs("mixed", "backup", str(source))
        sides.add("ours", "size", _size(ours))
        sides.add("theirs", "size", _size(theirs))
    sides.ours("unchanged", "save", source, tree)
    if sides.has_peer:
        sides.theirs("unchanged", "backup", str(source))
    sides.ours("restore", "restore", target)
    shutil.rmtree(target)
    if sides.has_peer:
        sides.theirs("restore", "restore", "latest", "--target", str(target))
        shutil.rmtree(target)
    sides.ours("check_data", "check_data", source)
    if sides.has_peer:
        sides.theirs("check_data", "check", "--read-data")
    _prune(sides, source)
    for place in (ours, theirs):
        shutil.rmtree(place, ignore_errors=True)
    Repository.init(FileBank(path=str(ours)), passwords=[PASSWORD], now=datetime.now(UTC))
    sides.ours("tiny", "save", tiny)
    if sides.has_peer:
        sides.theirs("init", "init", "--repository-version", "2")
        sides.theirs("tiny", "backup", str(tiny))
    for place in (ours, theirs):
        shutil.rmtree(place, ignore_errors=True)


def _prune(sides: Sides, source: Path) -> None:
    """Keep a snapshot of every other folder only, and prune all that the rest had."""
    half = sides.scratch / "half"
    half.mkdir()
    for folder in sorted(source.iterdir())[::2]:
        folder.rename(half / folder.name)
    for _ in range(2):
        sides.ours("half", "save", half)
    opened = Repository.open(
        FileBank(path=str(sides.scratch / "ours")), password=PASSWORD, now=datetime.now(UTC)
    )
    for snapshot in opened.snapshots()[1:-1]:
        opened.forget(snapshot.id)
    sides.ours("prune", "prune", source)
    if sides.has_peer:
        sides.theirs("half", "backup", str(half))
        sides.theirs("half", "forget", "--keep-last", "1", "--group-by", "host")
        sides.theirs("prune", "prune", "--max-unused", "0")
    for folder in half.iterdir():
        folder.rename(source / folder.name)
    half.rmdir()


def _big(scratch: Path) -> None:
    source, tiny = scratch / "source", scratch / "tiny"
    for folder in (source, tiny):
        folder.mkdir()
    make_source(source)
    make_tiny(tiny)
    sides = Sides(scratch)
    for _ in range(ROUNDS):
        _round(sides, source, tiny)
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
    if len(sys.argv) == 5:
        act(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] or None)
    else:
        main()
