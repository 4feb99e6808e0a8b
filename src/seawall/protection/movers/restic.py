# SPDX-License-Identifier: Apache-2.0
"""The installed ``restic``, driven as a child of a mover.

The password goes through a pipe, never through an argument or a variable. The child dies with its mover: a
cancelled run ends both. What it says as JSON becomes progress, faults and figures; what it fails with becomes
one of our errors. It keeps no cache: each host's disk would hold one for each repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from seawall.core.errors import (
    BankError,
    BankFullError,
    ConfigurationError,
    ConflictError,
    DamagedError,
    RunError,
    SeawallError,
    WrongKeyError,
)
from seawall.sdk.bank import ResticAddress

_SOME_UNREADABLE: Final = 3
_LOCKED: Final = 11
_WRONG_PASSWORD: Final = 12
_MOST_SHOWN: Final = 500
# What a child's environment keeps of ours; the rest is none of its business.
_KEPT: Final = (
    "PATH",
    "HOME",
    "TMPDIR",
    "TZ",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "NO_PROXY",
)
# Asks the kernel to kill it when the thread that started it ends, then becomes the program.
_TIED: Final = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "os.getppid() == int(sys.argv[1]) or os._exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)
# In the order in which they are looked for: words of the program, and what they mean.
_MEANINGS: Final[Sequence[tuple[str, type[SeawallError]]]] = (
    (r"wrong password|no key found", WrongKeyError),
    (r"already locked|unable to create lock", ConflictError),
    (r"no space left|disk quota|QuotaExceeded", BankFullError),
    (r"verification failed|not found in index|invalid data returned|failed to load tree", DamagedError),
    (r"dial tcp|timeout|connection re|503|SlowDown|Access Denied|Stat:|client\.", BankError),
)
_RESTORE_FAULT: Final = re.compile(r"ignoring error for (.+?): (.+)")


@dataclass(slots=True)
class Backup:
    """What one backup did."""

    snapshot: str = ""
    """The beginning of its id."""
    items: int = 0
    read_bytes: int = 0
    added_bytes: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)


class Restic:
    """One repository, as the program sees it."""

    def __init__(self, address: ResticAddress, password: str) -> None:
        """``ConfigurationError`` when the program is not installed."""
        program = shutil.which("restic")
        if program is None:
            raise ConfigurationError.of("engine", "restic", "is not installed on this host (not in PATH)")
        self._program = program
        self._address = address
        self._password = password

    def backup(
        self,
        path: Path,
        *,
        excludes: Sequence[str],
        options: Sequence[str],
        tags: Sequence[str],
        parent: str | None,
        progress: Callable[[int, int], None] | None,
    ) -> Backup:
        """Store what the folder holds as a snapshot whose tree has its entries."""
        words = ["backup", "--json", *options]
        for tag in tags:
            words += ["--tag", tag]
        for one in excludes:
            words += ["--exclude", one]
        words += ["--force"] if parent is None else ["--parent", parent]
        result = Backup()

        def take(line: str) -> None:
            _take_backup_line(line, result, progress)

        errors: list[str] = []
        # The folder is opened once and checked as opened: nobody can exchange it for a link on the way.
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.path.realpath(f"/proc/self/fd/{handle}") != str(path):
                raise ConflictError(f"{path} was exchanged for something else while it was opened")
            code = self._run([*words, "."], take, errors, folder=path, handle=handle)
        finally:
            os.close(handle)
        for line in errors:
            _take_backup_line(line, result, None)
        if code not in (0, _SOME_UNREADABLE) or not result.snapshot:
            raise _error(code, errors)
        if code == _SOME_UNREADABLE and not result.faults:
            result.faults.append((str(path), "restic could not read all of it"))
        return result

    def restore(self, snapshot: str, target: Path, include: Sequence[str]) -> list[tuple[str, str]]:
        """Write a snapshot into an empty folder; what could not be written, and why."""
        words = ["restore", snapshot, "--target", str(target)]
        for one in include:
            words += ["--include", one]
        errors: list[str] = []
        code = self._run(words, lambda line: None, errors)
        faults = [
            (found.group(1), found.group(2)) for line in errors if (found := _RESTORE_FAULT.search(line))
        ]
        if code and not faults:
            raise _error(code, errors)
        return faults

    def _run(
        self,
        words: Sequence[str],
        take: Callable[[str], None],
        errors: list[str],
        *,
        folder: Path | None = None,
        handle: int | None = None,
    ) -> int:
        """Run it to its end; lines of its answer go to ``take``, of its complaints to ``errors``."""
        reading, writing = os.pipe()
        try:
            # A password is far shorter than what a pipe holds.
            os.write(writing, f"{self._password}\n".encode())
        finally:
            os.close(writing)
        given = ["-r", self._address.repository, "--password-file", f"/dev/fd/{reading}", "--no-cache"]
        kept = [reading] if handle is None else [reading, handle]
        # Complaints go to a file: two pipes would need two readers.
        with tempfile.TemporaryFile() as complaints:
            try:
                child = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid())),
                        *(self._program, *given, *self._address.options, *words),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=self._environment(folder),
                    cwd=None if handle is None else f"/proc/self/fd/{handle}",
                    pass_fds=kept,
                )
            finally:
                os.close(reading)
            assert child.stdout is not None
            with child, child.stdout:
                for line in child.stdout:
                    take(line.decode("utf-8", "replace"))
            complaints.seek(0)
            errors += complaints.read().decode("utf-8", "replace").splitlines()
            return child.returncode

    def _environment(self, folder: Path | None) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # The program shows and matches paths as its working folder is called here.
        here = {} if folder is None else {"PWD": str(folder)}
        return {**kept, **self._address.environment, **here}


def escaped(path: str) -> str:
    """A path as a pattern that matches it alone."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", path)


def _take_backup_line(line: str, result: Backup, progress: Callable[[int, int], None] | None) -> None:
    try:
        value = json.loads(line)
    except ValueError:
        return  # a line for people
    if not isinstance(value, dict):
        return
    said: dict[str, Any] = value
    kind = said.get("message_type")
    if kind == "status" and progress is not None:
        progress(int(said.get("bytes_done", 0)), int(said.get("files_done", 0)))
    elif kind == "error":
        error = said.get("error")
        reason = error.get("message") or error.get("Err") if isinstance(error, dict) else error
        result.faults.append((str(said.get("item", "")), str(reason or said.get("during", "failed"))))
    elif kind == "summary":
        folders = sum(int(said.get(f"dirs_{word}", 0)) for word in ("new", "changed", "unmodified"))
        result.snapshot = str(said.get("snapshot_id", ""))
        result.items = int(said.get("total_files_processed", 0)) + folders
        result.read_bytes = int(said.get("total_bytes_processed", 0))
        result.added_bytes = int(said.get("data_added_packed", said.get("data_added", 0)))


def _error(code: int, errors: Sequence[str]) -> SeawallError:
    """What a failure means. Its words hold paths and addresses, and nothing secret was given to it to say."""
    text = " ".join(line.strip() for line in errors if line.strip())
    words = f"restic ended with {code}: {text[:_MOST_SHOWN] or 'it said nothing'}"
    if code == _LOCKED:
        return ConflictError(words)
    if code == _WRONG_PASSWORD:
        return WrongKeyError(words)
    for pattern, kind in _MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return kind(words)
    return RunError(words)
