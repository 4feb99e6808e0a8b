# SPDX-License-Identifier: Apache-2.0
"""The two banks that these tests use: one in memory, and a plain folder that restic can open."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from seawall.core.errors import BankObjectMissingError, ConflictError
from seawall.sdk.bank import BankFeatures, Chunks, ObjectInfo


def _joined(content: bytes | Chunks) -> bytes:
    return content if isinstance(content, bytes) else b"".join(content)


class DictBank:
    """Objects in a dictionary, and the order in which they were put and deleted."""

    bank_name: ClassVar[str] = "dictionary"
    options_schema: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.acts: list[tuple[str, str]] = []

    @property
    def features(self) -> BankFeatures:
        return BankFeatures(conditional_create=True)

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        if create_only and key in self.objects:
            raise ConflictError(f"{key} exists")
        self.objects[key] = _joined(content)
        self.acts.append(("put", key))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if key not in self.objects:
            raise BankObjectMissingError(f"no object {key}")
        return self.objects[key][offset : None if length is None else offset + length]

    def size(self, key: str) -> int:
        return len(self.get(key))

    def exists(self, key: str) -> bool:
        return key in self.objects

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(self.objects[key]))

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)
        self.acts.append(("delete", key))

    def close(self) -> None:
        return


class FolderBank:
    """Objects as files below a folder; keys are paths, so that restic opens it as a local repository."""

    bank_name: ClassVar[str] = "folder"
    options_schema: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @property
    def features(self) -> BankFeatures:
        return BankFeatures(conditional_create=True, local_path=str(self.root))

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        path = self.root / key
        if create_only and path.exists():
            raise ConflictError(f"{key} exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with part.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        try:
            with (self.root / key).open("rb") as file:
                file.seek(offset)
                return file.read(-1 if length is None else length)
        except FileNotFoundError:
            raise BankObjectMissingError(f"no object {key}") from None

    def size(self, key: str) -> int:
        if not self.exists(key):
            raise BankObjectMissingError(f"no object {key}")
        return (self.root / key).stat().st_size

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = self.root / prefix.rpartition("/")[0]
        found = {
            str(path.relative_to(self.root)): path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        for key in sorted(found):
            if key.startswith(prefix):
                yield ObjectInfo(key, found[key])

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def close(self) -> None:
        return
