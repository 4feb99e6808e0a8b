# SPDX-License-Identifier: Apache-2.0
"""The repository engine as a process, beside restic: CPU seconds and memory for the same files.

    python -m bench.repository

The source is 1 GiB of this machine's own files (programs, libraries, texts), copied to a scratch folder. Both
sides write to a local folder; each is a whole process, start and key derivation included, so that ours is
measured at its worst (a mover keeps its repository open). Medians of the rounds, sides taking turns.

``repository.mixed_1gib_cpu_ratio``, ``repository.unchanged_cpu_ratio``: our CPU seconds divided by restic's.
``repository.peak_rss_mib``: highest resident memory of our process in either. ``repository.small_backup_ms``:
five small files through an open repository, wall time without the writes to the disk (a bank in memory).
Without restic only the last two are printed.
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
from datetime import UTC, datetime
from pathlib import Path

from bench.figure import show
from seawall.protection.banks.file import FileBank
from seawall.protection.banks.memory import MemoryBank
from seawall.repository import Repository

SOURCE_BYTES = 1024**3
LARGEST_BYTES = 64 * 1024**2
ROUNDS = 3
SMALL_ROUNDS = 51
PASSWORD = "bench"


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


def save(repository: Path, source: Path, parent: str | None) -> None:
    """One backup in this process; prints its tree, CPU seconds and peak memory."""
    now = datetime.now(UTC)
    opened = Repository.open(FileBank(path=str(repository)), password=PASSWORD, now=now)
    with opened.writer(Unlocked()) as writer:
        result = writer.save_path(source, parent_tree=parent)
        writer.commit(
            result.tree_id, hostname="bench", username="bench", paths=[str(source)], tags=[], time=now
        )
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "tree": result.tree_id,
                "cpu_s": used.ru_utime + used.ru_stime,
                "rss_mib": used.ru_maxrss / 1024,
            }
        )
    )


def _ours(repository: Path, source: Path, parent: str = "") -> dict[str, float | str]:
    command = [sys.executable, "-m", "bench.repository", "save", str(repository), str(source), parent]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


def _restic(repository: Path, *words: str) -> float:
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(repository)}
    with subprocess.Popen(
        ["restic", "--no-cache", "--quiet", *words], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"restic {words} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def _big(scratch: Path) -> None:
    source = scratch / "source"
    source.mkdir()
    make_source(source)
    peer = shutil.which("restic") is not None
    ours: dict[str, list[float]] = {"mixed": [], "unchanged": [], "rss": []}
    theirs: dict[str, list[float]] = {"mixed": [], "unchanged": []}
    for _ in range(ROUNDS):
        place = scratch / "ours"
        Repository.init(FileBank(path=str(place)), passwords=[PASSWORD], now=datetime.now(UTC))
        first = _ours(place, source)
        again = _ours(place, source, str(first["tree"]))
        for name, found in (("mixed", first), ("unchanged", again)):
            ours[name].append(float(found["cpu_s"]))
            ours["rss"].append(float(found["rss_mib"]))
        shutil.rmtree(place)
        if peer:
            place = scratch / "theirs"
            _restic(place, "init", "--repository-version", "2")
            for name in ("mixed", "unchanged"):
                theirs[name].append(_restic(place, "backup", str(source)))
            shutil.rmtree(place)
    if peer:
        for name, figure, goal in (("mixed", "mixed_1gib", 1.25), ("unchanged", "unchanged", 1.5)):
            ratio = statistics.median(ours[name]) / statistics.median(theirs[name])
            show(
                f"repository.{figure}_cpu_ratio",
                ratio,
                "ratio",
                goal,
                peer="restic",
                peer_value=statistics.median(theirs[name]),
                ratio=ratio,
            )
    show("repository.peak_rss_mib", max(ours["rss"]), "MiB", 300)


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
    show("repository.small_backup_ms", statistics.median(walls), "ms", 20)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as scratch:
        _big(Path(scratch))
        _small(Path(scratch))


if __name__ == "__main__":
    if sys.argv[1:2] == ["save"]:
        save(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] or None)
    else:
        main()
