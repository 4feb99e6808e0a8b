# SPDX-License-Identifier: Apache-2.0
"""Files of checkpoints."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from seawall.api.schemas.common import AnswerModel, Instant, NextLink
from seawall.protection.downloads import StoredFile


class FileView(AnswerModel):
    name: str
    path: str
    """What it is asked for by. A byte that is no UTF-8 is shown as ``\\xff``, here and in ``name``."""
    quoted_path: str
    """The path as a query holds it, whatever its bytes are."""
    type: str
    size: int
    mode: str
    uid: int
    gid: int
    modified_at: Instant | None
    target: str | None

    @classmethod
    def of(cls, found: StoredFile) -> FileView:
        return cls(
            name=_shown(found.name),
            path=_shown(found.path),
            quoted_path=quote_from_bytes(found.path),
            type=found.type,
            size=found.size,
            mode=f"{found.mode:04o}",
            uid=found.uid,
            gid=found.gid,
            modified_at=found.modified_at,
            target=_shown(found.target) if found.target else None,
        )


class FilesAnswer(AnswerModel):
    files: list[FileView]
    files_links: NextLink = None


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
