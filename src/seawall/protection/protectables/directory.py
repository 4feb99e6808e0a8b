# SPDX-License-Identifier: Apache-2.0
"""``directory``: a folder of this host with everything in it. Its id is its absolute path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from seawall.core.errors import InvalidInputError
from seawall.sdk.beneath import checked_path, find, open_beneath
from seawall.sdk.protection import Instance


class Directory:
    """Lists the folders that a project may touch, or those in one of them."""

    resource_type: ClassVar[str] = "directory"
    dependent_types: ClassVar[Sequence[str]] = ()
    on_host: ClassVar[bool] = True
    instances_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "whose folders; the allowed roots if absent"}
        },
        "additionalProperties": False,
    }

    def instances(self, allowed_roots: Sequence[Path], parameters: Mapping[str, Any]) -> Iterable[Instance]:
        """In the order of their paths. Folders whose names are no text cannot be named, and are left out."""
        if "path" in parameters:
            return self._inside(str(parameters["path"]), allowed_roots)
        return (_instance(root) for root in sorted(allowed_roots) if root.is_dir())

    def instance(self, resource_id: str, allowed_roots: Sequence[Path]) -> Instance:
        """One folder; it can be read now."""
        path = checked_path(resource_id)
        found = find(path, allowed_roots)
        if found.status is None or not stat.S_ISDIR(found.status.st_mode):
            raise InvalidInputError.of("path", resource_id, "must be a directory, and is none")
        os.close(open_beneath(path, allowed_roots, os.O_RDONLY | os.O_DIRECTORY))
        return _instance(path)

    def _inside(self, text: str, allowed_roots: Sequence[Path]) -> Iterator[Instance]:
        path = checked_path(text)
        if not stat.S_ISDIR(os.lstat(find(path, allowed_roots).path).st_mode):
            raise InvalidInputError.of("path", text, "must be a directory, and is none")
        descriptor = open_beneath(path, allowed_roots, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as entries:
                names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        finally:
            os.close(descriptor)
        for name in names:
            if _is_text(name):
                yield _instance(path / name)


def _instance(path: Path) -> Instance:
    return Instance(type=Directory.resource_type, id=str(path), name=path.name or str(path))


def _is_text(name: str) -> bool:
    """Whether a name can stand in an answer; file names may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
