# SPDX-License-Identifier: Apache-2.0
"""Opening a path beneath a root that a project may touch, without following a symlink out of it (I11).

The path is walked name by name on open folders, so that nobody can exchange a folder for a symlink between
the look and the use. A symlink is followed by the same walk: it may lead anywhere beneath the root, and
nowhere else. The root itself is the operator's word: it may be reached through symlinks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from seawall.core.errors import ForbiddenError, InvalidInputError, NotFoundError

MAX_PATH_BYTES: Final = 4095
MAX_NAME_BYTES: Final = 255
_MAX_LINKS: Final = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path leads."""

    path: Path
    """Free of symlinks."""
    status: os.stat_result | None
    """Of what is there; None when nothing is (only asked for with ``must_exist=False``)."""


def checked_path(text: str) -> Path:
    """The path without doubled or trailing slashes and ``.``; ``InvalidInputError`` of the field ``path``
    when it is not absolute, has ``..``, or is longer than the system takes."""
    if not text.startswith("/"):
        raise InvalidInputError.of("path", text, "must be an absolute path")
    if "\x00" in text:
        raise InvalidInputError.of("path", text, "must not contain NUL")
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raise InvalidInputError.of("path", text, "must be text that can be a file name") from None
    names = [name for name in text.split("/") if name not in ("", ".")]
    if ".." in names:
        raise InvalidInputError.of("path", text, "must not contain `..`")
    if len(raw) > MAX_PATH_BYTES or any(len(os.fsencode(name)) > MAX_NAME_BYTES for name in names):
        rule = f"must have at most {MAX_PATH_BYTES} bytes, and {MAX_NAME_BYTES} in each name"
        raise InvalidInputError.of("path", text, rule)
    return Path("/", *names)


def find(path: str | Path, roots: Sequence[Path], *, must_exist: bool = True) -> Found:
    """Where the path leads, beneath one of the roots.

    ``ForbiddenError`` when it lies outside of all of them or a symlink leads out, ``NotFoundError`` when
    there is nothing (with ``must_exist=False`` what is missing is named, and nothing is made),
    ``InvalidInputError`` when it is no path or cannot be reached.
    """
    found, descriptor = _reach(path, roots, must_exist=must_exist)
    if descriptor is not None:
        os.close(descriptor)
    return found


def open_beneath(path: str | Path, roots: Sequence[Path], flags: int) -> int:
    """A descriptor of what ``find`` finds, opened with ``flags``; the caller's to close.

    What was found is what is opened, whatever is renamed meanwhile.
    """
    _, descriptor = _reach(path, roots, must_exist=True)
    assert descriptor is not None  # it exists, or _reach has raised
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(str(path), error) from error
    finally:
        os.close(descriptor)


def _reach(path: str | Path, roots: Sequence[Path], *, must_exist: bool) -> tuple[Found, int | None]:
    wanted = checked_path(os.fspath(path))
    refusal: ForbiddenError | None = None
    for root in sorted(roots, key=lambda one: len(one.parts)):
        if not wanted.is_relative_to(root):
            continue
        try:
            return _Walk(wanted, root).run(wanted.relative_to(root).parts, must_exist=must_exist)
        except ForbiddenError as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    named = ", ".join(str(root) for root in roots) or "none"
    raise ForbiddenError(f"{wanted} lies outside of what this project may touch; allowed: {named}")


@dataclass(slots=True)
class _Walk:
    """One walk: the open folders from the root on, and the names of those that are missing."""

    wanted: Path
    root: Path
    folders: list[tuple[str, int]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    links: int = 0

    def run(self, names: Sequence[str], *, must_exist: bool) -> tuple[Found, int | None]:
        try:
            begin = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(
                f"the root {self.root}, which this project may touch, does not exist"
            ) from None
        except OSError as error:
            raise _unreadable(str(self.root), error) from error
        self.folders.append((os.path.realpath(f"/proc/self/fd/{begin}"), begin))
        try:
            return self._go(list(names), must_exist=must_exist)
        except FileNotFoundError:
            raise NotFoundError(f"{self.wanted} does not exist") from None
        except NotADirectoryError:
            raise NotFoundError(f"{self.wanted} does not exist: a part of it is no directory") from None
        except OSError as error:
            raise _unreadable(str(self.wanted), error) from error
        finally:
            for _, descriptor in self.folders:
                os.close(descriptor)

    def _go(self, todo: list[str], *, must_exist: bool) -> tuple[Found, int | None]:
        while todo:
            name = todo.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                self._up()
                continue
            if self.missing:
                self.missing.append(name)
                continue
            try:
                descriptor = os.open(
                    name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folders[-1][1]
                )
            except FileNotFoundError:
                if must_exist:
                    raise
                self.missing.append(name)
                continue
            status = os.fstat(descriptor)
            if stat.S_ISLNK(status.st_mode):
                todo = self._follow(descriptor, todo)
            elif stat.S_ISDIR(status.st_mode):
                self.folders.append((name, descriptor))
            elif any(one not in ("", ".") for one in todo):
                os.close(descriptor)
                raise NotADirectoryError
            else:
                return Found(self._path(name), status), descriptor
        if self.missing:
            return Found(self._path(*self.missing), None), None
        last = os.dup(self.folders[-1][1])
        return Found(self._path(), os.fstat(last)), last

    def _up(self) -> None:
        if self.missing:
            self.missing.pop()
        elif len(self.folders) == 1:
            if self.folders[0][0] != "/":  # above the root of the system is the root of the system
                raise self._escape()
        else:
            os.close(self.folders.pop()[1])

    def _follow(self, descriptor: int, todo: list[str]) -> list[str]:
        """What is left to walk when a symlink's target stands in place of its name."""
        try:
            target = os.readlink("", dir_fd=descriptor)
        finally:
            os.close(descriptor)
        self.links += 1
        if self.links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not target.startswith("/"):
            return [*target.split("/"), *todo]
        names = [name for name in target.split("/") if name not in ("", ".")]
        for root in (self.root, Path(self.folders[0][0])):
            parts = list(root.parts[1:])
            if names[: len(parts)] == parts:
                while len(self.folders) > 1:
                    os.close(self.folders.pop()[1])
                return [*names[len(parts) :], *todo]
        raise self._escape()

    def _path(self, *names: str) -> Path:
        return Path(*(name for name, _ in self.folders), *names)

    def _escape(self) -> ForbiddenError:
        return ForbiddenError(f"{self.wanted} leads through a symbolic link out of {self.root}")


def _unreadable(path: str, error: OSError) -> InvalidInputError:
    return InvalidInputError.of("path", path, f"cannot be read by this service: {error.strerror}")
