# SPDX-License-Identifier: Apache-2.0
"""What each project may reach on this host: files in ``projects.d``, written by the operator (I11).

    project: admin        # its name or id
    roots: [/srv, /home]

What no file allows is denied. Some places are left out of every backup whatever the files say: ``/proc`` and
``/sys``, which hold no data, the data folder, which holds the keys, and banks that are folders of this host.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import yaml

from seawall.core.errors import ConfigurationError, FieldFault, InvalidInputError, NotFoundError
from seawall.runtime import json_schema, operator_files
from seawall.runtime.folder import write_private
from seawall.runtime.operator_files import FileFault, OperatorFile
from seawall.sdk.beneath import Found, checked_path, find
from seawall.sdk.failpoints import failpoint

_SUFFIXES: Final = (".yaml", ".yml")
_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "project": {"type": "string", "minLength": 1},
        "roots": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
    },
    "required": ["project", "roots"],
    "additionalProperties": False,
}
_PSEUDO: Final[Mapping[Path, str]] = {
    Path("/proc"): "the kernel's view of processes, not data",
    Path("/sys"): "the kernel's view of devices, not data",
}


@dataclass(frozen=True, slots=True)
class Excluded:
    """A place that is left out of every backup."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is always left out: it is {self.reason}"


@dataclass(frozen=True, slots=True)
class _Entry:
    project: str
    roots: tuple[Path, ...]


class AllowList:
    """The allow-lists of one installation; thread-safe. A changed file is read anew by the next question."""

    def __init__(
        self,
        folder: Path,
        *,
        name_of: Callable[[str], str] | None = None,
        own_places: Callable[[], Mapping[Path, str]] | None = None,
    ) -> None:
        """``name_of`` gives the name of a project's id, for files name projects by either. ``own_places`` are
        Seawall's own folders and what each is: the data folder and the banks."""
        self._folder = folder
        self._name_of = name_of
        self._own_places = own_places
        self._lock = threading.Lock()
        self._signature: operator_files.Signature | None = None
        self._entries: tuple[_Entry, ...] = ()
        self._faults: tuple[FileFault, ...] = ()

    @property
    def faults(self) -> tuple[FileFault, ...]:
        """The files that allow nothing because they are broken, each with the reason."""
        with self._lock:
            self._look()
            return self._faults

    def roots(self, project: str) -> tuple[Path, ...]:
        """The folders that a project, by id or name, may touch; none when no file names it."""
        names = {project, self._name(project)}
        with self._lock:
            self._look()
            found = [root for entry in self._entries if entry.project in names for root in entry.roots]
        return tuple(dict.fromkeys(found))

    def excluded(self) -> tuple[Excluded, ...]:
        """What is left out of every backup, by its real path."""
        own = {} if self._own_places is None else self._own_places()
        places = {**_PSEUDO, **{Path(os.path.realpath(path)): reason for path, reason in own.items()}}
        return tuple(Excluded(path, reason) for path, reason in sorted(places.items()))

    def check(self, project: str, path: str, *, must_exist: bool = True) -> Found:
        """Where a path leads, when the project may touch it.

        ``ForbiddenError``, ``NotFoundError`` or ``InvalidInputError`` as ``sdk.beneath.find``;
        ``InvalidInputError``, too, when it lies in a place that is always left out.
        """
        found = find(path, self.roots(project), must_exist=must_exist)
        for place in self.excluded():
            if found.path.is_relative_to(place.path):
                rule = f"cannot be used: it lies in {place.path}, {place.reason}"
                raise InvalidInputError.of("path", path, rule)
        return found

    def notices(self, found: Found) -> tuple[str, ...]:
        """What is left out of a folder that is backed up, and why, for people."""
        return tuple(str(place) for place in self.excluded() if place.path.is_relative_to(found.path))

    def _name(self, project: str) -> str:
        """The name of a project that is given by its id; else what is given."""
        try:
            UUID(project)
            return project if self._name_of is None else self._name_of(project)
        except (ValueError, NotFoundError):
            return project

    def _look(self) -> None:
        """Read the folder again if something in it has changed. Under the lock."""
        now = operator_files.signature(self._folder, _SUFFIXES)
        if self._signature == now:
            return
        files, faults = operator_files.read(self._folder, _SUFFIXES)
        entries = []
        for file in files:
            try:
                entries.append(_parse(file))
            except InvalidInputError as error:
                faults.append(FileFault(str(file.path), str(error)))
        self._entries, self._faults, self._signature = tuple(entries), tuple(faults), now


def ensure_default(folder: Path, project: str) -> None:
    """On the first start the given project may touch the whole host, and no other anything.

    When the folder is there it is left as the operator has it, even when it is empty.
    """
    if folder.is_dir():
        return
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    new.mkdir(mode=0o700, exist_ok=True)
    text = yaml.safe_dump({"project": project, "roots": ["/"]}, sort_keys=False)
    comment = "# What a project may back up and restore to on this host. What no file allows is denied.\n"
    write_private(new / f"{project}.yaml", comment + text)
    # The folder comes with its file: a start that dies here leaves no empty folder that denies everything.
    failpoint("allowlist.default.before_rename")
    new.rename(folder)
    failpoint("allowlist.default.after_rename")


def _parse(file: OperatorFile) -> _Entry:
    values = operator_files.parse_yaml(file)
    if wrong := json_schema.faults(_SCHEMA, values, ""):
        raise ConfigurationError(wrong)
    return _Entry(
        values["project"], tuple(_root(number, text) for number, text in enumerate(values["roots"]))
    )


def _root(number: int, text: str) -> Path:
    try:
        return checked_path(text)
    except InvalidInputError as error:
        faults: Sequence[FieldFault] = error.fields
        raise ConfigurationError(
            [FieldFault(f"roots[{number}]", one.value, one.rule) for one in faults]
        ) from error
