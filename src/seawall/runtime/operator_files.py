# SPDX-License-Identifier: Apache-2.0
"""Folders of files that only the operator may write: ``providers.d`` and ``projects.d`` (I11).

What stands there reaches into the host, so a file or folder that anybody but us (or root) could have written
is refused. One broken file never hides the others: it becomes a ``FileFault``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from seawall.core.errors import ConfigurationError, FieldFault

# More than any such file needs; a wrong one must not fill the memory.
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class OperatorFile:
    """A file that was read whole."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class FileFault:
    """A file that is not used, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


Signature = tuple[tuple[str, int, int, int, int], ...]
"""Changes whenever a file of the folder comes, goes, or is written."""


def signature(folder: Path, suffixes: Collection[str]) -> Signature:
    """What ``read`` would find, without reading it."""
    try:
        names = _names(folder, suffixes)
        own = folder.lstat()
    except OSError:
        return ()
    found = [("", own.st_mode, own.st_uid, 0, 0)]
    for name in names:
        try:
            one = (folder / name).lstat()
        except OSError:
            continue  # it goes at this very moment
        found.append((name, one.st_mtime_ns, one.st_size, one.st_ino, one.st_mode))
    return tuple(found)


def read(folder: Path, suffixes: Collection[str]) -> tuple[list[OperatorFile], list[FileFault]]:
    """The files with these suffixes in the order of their names, and those that are refused."""
    try:
        names = _names(folder, suffixes)
        reason = _refusal(folder.stat())
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [FileFault(str(folder), f"cannot be read: {error.strerror}")]
    if reason is not None:
        return [], [FileFault(str(folder), f"refused: the folder {reason}")] if names else []
    found: list[OperatorFile] = []
    faults: list[FileFault] = []
    for name in names:
        path = folder / name
        try:
            found.append(OperatorFile(path, _text(path)))
        except ConfigurationError as error:
            faults.append(FileFault(str(path), error.fields[0].rule))
    return found, faults


def parse_yaml(file: OperatorFile) -> dict[str, Any]:
    """Its ``name: value`` lines; ``ConfigurationError`` says where it is no such file."""
    try:
        values = yaml.safe_load(file.text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise _fault(file.path, f"must be valid YAML: {problem}{where}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise _fault(file.path, "must hold `name: value` lines")
    return values


def _names(folder: Path, suffixes: Collection[str]) -> list[str]:
    return sorted(
        name for name in os.listdir(folder) if not name.startswith(".") and Path(name).suffix in suffixes
    )


def _text(path: Path) -> str:
    """The text of a file that nobody else could have written; checked on the descriptor that is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror} (symbolic links are refused)") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _fault(path, "refused: it is not a regular file")
        if (reason := _refusal(status)) is not None:
            raise _fault(path, f"refused: it {reason}")
        with open(os.dup(descriptor), "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MOST_BYTES:
        raise _fault(path, f"is larger than {_MOST_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _fault(path, f"is not UTF-8 text: {error}") from error


def _refusal(status: os.stat_result) -> str | None:
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}, not to us or root"
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by its group or others (mode {mode:04o}); use chmod go-w"
    return None


def _fault(path: Path, rule: str) -> ConfigurationError:
    return ConfigurationError([FieldFault("file", str(path), rule)])
