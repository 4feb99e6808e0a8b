# SPDX-License-Identifier: Apache-2.0
"""Finds plugins: in our own folder of their kind, through entry points, and in drop-in folders (M11).

A plugin is a class with a name attribute (``operation_type``, ``bank_name``, ...) and the members of its
protocol. What is broken is *isolated*: it becomes a ``PluginFault`` that names the source and the reason, and
every other plugin works. A second plugin of a name is refused and the first stays; the order is built-in,
entry points by name, folders as configured, files by name.

A drop-in file is code that we run with our rights, so a folder or file that anybody but us (or root) could
have written is refused: owner and write bits of the file, its folder and the folders above are checked.
The file is read once, through the descriptor that was checked, so that it cannot be exchanged in between.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import pkgutil
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from seawall.core.errors import PluginError

T = TypeVar("T")

# A plugin's name is a word of the API and of file names: it is checked once, here.
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_MODULE_PREFIX = "seawall_dropin_"


@dataclass(frozen=True, slots=True)
class PluginKind(Generic[T]):
    """One kind of plugin: where it is found and what it must have."""

    group: str
    """The entry point group, e.g. ``seawall.operations``."""
    name_attribute: str
    """The class attribute that holds its name, e.g. ``operation_type``."""
    protocol: type[T]
    package: str | None = None
    """The package whose modules are the built-in ones."""


@dataclass(frozen=True, slots=True)
class PluginFault:
    """A plugin that is not used, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, slots=True)
class _Found:
    plugin: type[Any]
    source: str


@dataclass(slots=True)
class _Scan:
    found: dict[str, _Found] = field(default_factory=dict)
    faults: list[PluginFault] = field(default_factory=list)


class Plugins(Generic[T]):
    """The plugins of one kind; thread-safe. Made by ``load_plugins``.

    Classes handed out stay valid: a refresh reads a changed file anew and never unloads what runs.
    """

    def __init__(
        self,
        kind: PluginKind[T],
        folders: Sequence[Path],
        *,
        installed: Callable[[str], Sequence[EntryPoint]],
    ) -> None:
        self.kind = kind
        self._folders = tuple(folders)
        self._installed = installed
        self._lock = threading.RLock()
        self._fixed = _Scan()
        self._now = _Scan()
        self._files: dict[Path, tuple[str, ModuleType | PluginFault]] = {}
        self._scan_fixed()
        self.refresh()

    @property
    def faults(self) -> tuple[PluginFault, ...]:
        """What is broken or refused now."""
        with self._lock:
            return tuple(self._now.faults)

    def names(self) -> tuple[str, ...]:
        """The names in alphabetical order."""
        with self._lock:
            return tuple(sorted(self._now.found))

    def get(self, name: str) -> type[T]:
        """The class of this name; an unknown name looks for new files first.

        ``PluginError`` names the known ones, and the broken ones, for one of them may be what is meant.
        """
        with self._lock:
            if name not in self._now.found:
                self.refresh()
            if (found := self._now.found.get(name)) is not None:
                return cast("type[T]", found.plugin)
            known = ", ".join(self.names()) or "none"
            broken = "".join(f"; not usable: {fault}" for fault in self._now.faults)
        raise PluginError(f"{self.kind.group}: there is no {name!r}; known: {known}{broken}")

    def source(self, name: str) -> str:
        """Where the plugin of this name comes from, for people."""
        self.get(name)
        with self._lock:
            return self._now.found[name].source

    def items(self) -> Mapping[str, type[T]]:
        """All of them by name."""
        with self._lock:
            return {name: cast("type[T]", self._now.found[name].plugin) for name in self.names()}

    def refresh(self) -> None:
        """Look into the drop-in folders again: new and changed files are read, vanished ones forgotten."""
        with self._lock:
            scan = _Scan(dict(self._fixed.found), list(self._fixed.faults))
            seen: set[Path] = set()
            for folder in self._folders:
                self._scan_folder(folder, scan, seen)
            for path in self._files.keys() - seen:
                del self._files[path]
            self._now = scan

    # --- built-in and installed: once ---------------------------------------------------------

    def _scan_fixed(self) -> None:
        if self.kind.package is not None:
            for name, loaded in _builtin_modules(self.kind.package):
                if isinstance(loaded, PluginFault):
                    self._fixed.faults.append(loaded)
                else:
                    self._take_module(loaded, name, self._fixed)
        for point in sorted(self._installed(self.kind.group), key=lambda one: (one.name, one.value)):
            source = f"entry point {point.name} = {point.value}"
            try:
                plugin = point.load()
            except Exception as error:  # noqa: BLE001 - a package of somebody else may raise anything (M11)
                self._fixed.faults.append(PluginFault(source, _reason(error)))
                continue
            # Our own plugins are listed as entry points too: the same class twice is one plugin.
            if not any(one.plugin is plugin for one in self._fixed.found.values()):
                self._take_class(plugin, source, self._fixed)

    # --- drop-in folders: again and again -----------------------------------------------------

    def _scan_folder(self, folder: Path, scan: _Scan, seen: set[Path]) -> None:
        try:
            paths = sorted(folder.resolve(strict=True).glob("*.py"))
            reason = _folder_refusal(folder.resolve())
        except FileNotFoundError:
            return
        except OSError as error:
            scan.faults.append(PluginFault(str(folder), _reason(error)))
            return
        if reason is not None:
            if paths:
                scan.faults.append(PluginFault(str(folder), f"refused: {reason}"))
            return
        for path in paths:
            if path.name.startswith(("_", ".")):
                continue
            seen.add(path)
            loaded = self._load_file(path)
            if isinstance(loaded, PluginFault):
                scan.faults.append(loaded)
            else:
                self._take_module(loaded, str(path), scan)

    def _load_file(self, path: Path) -> ModuleType | PluginFault:
        """The module in a file, read anew only when its content has changed."""
        try:
            content = _read_safely(path)
        except (OSError, PluginError) as error:
            self._files.pop(path, None)
            return PluginFault(str(path), _reason(error))
        digest = hashlib.sha256(content).hexdigest()
        if (known := self._files.get(path)) is not None and known[0] == digest:
            return known[1]
        loaded = _execute(path, content, digest)
        self._files[path] = (digest, loaded)
        return loaded

    # --- what is a plugin ---------------------------------------------------------------------

    def _take_module(self, module: ModuleType, source: str, scan: _Scan) -> None:
        """Every class of the module itself (not one it imported) that has the name attribute."""
        candidates = [
            one
            for _, one in inspect.getmembers(module, inspect.isclass)
            if one.__module__ == module.__name__ and hasattr(one, self.kind.name_attribute)
        ]
        if not candidates and source.endswith(".py"):
            scan.faults.append(PluginFault(source, f"has no class with {self.kind.name_attribute}"))
        for candidate in candidates:
            self._take_class(candidate, source, scan)

    def _take_class(self, plugin: object, source: str, scan: _Scan) -> None:
        if (reason := self._refusal(plugin)) is not None:
            scan.faults.append(PluginFault(source, f"{getattr(plugin, '__name__', plugin)}: {reason}"))
            return
        name: str = getattr(plugin, self.kind.name_attribute)
        if (first := scan.found.get(name)) is not None:
            scan.faults.append(
                PluginFault(
                    source, f"refused: {name!r} exists already, from {first.source}; that one is used"
                )
            )
            return
        scan.found[name] = _Found(cast("type[Any]", plugin), source)

    def _refusal(self, plugin: object) -> str | None:
        if not inspect.isclass(plugin):
            return "is not a class"
        name = getattr(plugin, self.kind.name_attribute, None)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return f"{self.kind.name_attribute} is {name!r}: it must be a word like 'my_plugin'"
        missing = sorted(one for one in _members(self.kind.protocol) if not hasattr(plugin, one))
        if missing:
            return f"lacks {', '.join(missing)}"
        if inspect.isabstract(plugin):
            return "is abstract"
        return None


def load_plugins(
    kind: PluginKind[T],
    *,
    folders: Sequence[Path] = (),
    installed: Callable[[str], Sequence[EntryPoint]] | None = None,
) -> Plugins[T]:
    """All plugins of a kind. Never raises for a plugin: see ``Plugins.faults``.

    ``installed`` answers the entry points of a group; by default those of the installed packages.
    """
    return Plugins(kind, folders, installed=installed or (lambda group: tuple(entry_points(group=group))))


def _members(protocol: type[Any]) -> frozenset[str]:
    """The methods and class attributes that the protocol names."""
    names: set[str] = set()
    for one in protocol.__mro__:
        if one.__module__ in ("typing", "builtins"):
            continue
        names |= {name for name in vars(one) if not name.startswith("_")}
        names |= {name for name in getattr(one, "__annotations__", {}) if not name.startswith("_")}
    return frozenset(names)


def _builtin_modules(package: str) -> Iterator[tuple[str, ModuleType | PluginFault]]:
    """The modules in one of our plugin folders, each loaded or with the reason why not."""
    for info in sorted(
        pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda one: one.name
    ):
        if info.name.startswith("_"):
            continue
        name = f"{package}.{info.name}"
        try:
            yield name, importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - one broken file never stops the rest (M11)
            yield name, PluginFault(name, _reason(error))


def _read_safely(path: Path) -> bytes:
    """The content of a regular file that nobody else could have written."""
    if path.is_symlink():
        raise PluginError("refused: it is a symbolic link; put the file itself here")
    # Not blocking: a pipe that nobody writes to must not hold up the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PluginError("refused: it is not a regular file")
        if (reason := _writable_by_others(status)) is not None:
            raise PluginError(f"refused: the file {reason}")
        return file.read()


def _folder_refusal(folder: Path) -> str | None:
    """Why others could put a file into this folder, or exchange a folder on the way to it."""
    if (reason := _writable_by_others(folder.stat())) is not None:
        return f"the folder {reason}"
    for above in folder.parents:
        status = above.stat()
        # In a sticky folder such as /tmp only the owner of an entry may rename it.
        if not status.st_mode & stat.S_ISVTX and (reason := _writable_by_others(status)) is not None:
            return f"the folder above, {above}, {reason}"
    return None


def _writable_by_others(status: os.stat_result) -> str | None:
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}, not to us or root"
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by its group or others (mode {mode:04o}); use chmod go-w"
    return None


def _execute(path: Path, content: bytes, digest: str) -> ModuleType | PluginFault:
    """Run the file as a module of its own; each version has its own name, so that old classes live on."""
    where = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    module = ModuleType(f"{_MODULE_PREFIX}{path.stem}_{where}_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)  # the purpose of a drop-in folder
    except BaseException as error:  # foreign code, SystemExit included, is isolated (M11)
        del sys.modules[module.__name__]
        if isinstance(error, KeyboardInterrupt):
            raise
        return PluginFault(str(path), _reason(error))
    return module


def _reason(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error)
    return f"{type(error).__name__}: {error}"
