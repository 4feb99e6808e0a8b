# SPDX-License-Identifier: Apache-2.0
"""/providers/{provider_id}/checkpoints/{checkpoint_id}/files and .../download

Names of files may be any bytes: ``path`` and ``marker`` are taken as they stand in the query.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qsl, urlencode

from fastapi.responses import Response

from seawall.api import documents
from seawall.api.asked import Asked, AskedDep
from seawall.api.paging import list_query
from seawall.api.schemas.common import Link, UuidText
from seawall.api.schemas.files import FilesAnswer, FileView
from seawall.api.streams import ArchiveStream

router = documents.router("checkpoint files", "/providers/{provider_id}/checkpoints/{checkpoint_id}")

_TYPES = {"tar": "application/x-tar", "zip": "application/zip"}


@router.get("/files")
def list_checkpoint_files(
    provider_id: UuidText, checkpoint_id: UuidText, asked: AskedDep, path: str = ""
) -> FilesAnswer:
    """A folder of a checkpoint, by name; without ``path`` the folders of its resources."""
    limit = list_query(asked, extra=("path",)).limit
    folder = _raw(asked, "path")
    found, has_more = asked.ports.downloads.files(
        asked.caller, provider_id, checkpoint_id, path=folder, limit=limit, marker=_raw(asked, "marker")
    )
    links = None
    if has_more:
        query = urlencode({"path": folder, "limit": limit, "marker": found[-1].name})
        links = [Link(rel="next", href=str(asked.request.url.replace(query=query)))]
    return FilesAnswer(files=[FileView.of(one) for one in found], files_links=links)


@router.get(
    "/download",
    response_class=Response,
    responses={
        200: {
            "content": {kind: {} for kind in _TYPES.values()},
            "description": "the archive; one that breaks off has no last chunk",
        }
    },
)
def download_checkpoint_files(
    provider_id: UuidText,
    checkpoint_id: UuidText,
    asked: AskedDep,
    path: str = "",
    format: Literal["tar", "zip"] = "tar",
) -> Response:
    """A file or folder of a checkpoint as an archive; without ``path`` all of it."""
    found = asked.ports.downloads.download(
        asked.caller, provider_id, checkpoint_id, path=_raw(asked, "path"), format=format
    )
    return ArchiveStream(found, media_type=_TYPES[format])


def _raw(asked: Asked, name: str) -> bytes:
    """The bytes of a query parameter."""
    query: str = asked.request.scope["query_string"].decode("latin-1")
    given = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
    return given.get(name, "").encode("utf-8", "surrogateescape")
