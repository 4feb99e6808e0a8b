# SPDX-License-Identifier: Apache-2.0
"""Where the API answers, and the token that lets this user in.

``SEAWALL_URL`` (with ``SEAWALL_PROJECT_ID``) and ``SEAWALL_TOKEN`` win; else the files ``api-url`` and
``admin-token`` that a running service keeps in its data folder. A token is never taken from an argument, for
other users of the machine can read those.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from seawall.core.errors import InvalidInputError, ServiceUnreachableError, UnauthenticatedError
from seawall.runtime.folder import DataFolder


@dataclass(frozen=True, slots=True)
class Address:
    """``url`` ends with ``/v1/<project id>``."""

    url: str
    token: str = field(repr=False)


def find_address(folder: DataFolder, *, url: str | None = None) -> Address:
    """``ServiceUnreachableError`` when nothing says where; ``UnauthenticatedError`` without a token."""
    found = url or os.environ.get("SEAWALL_URL")
    if found is None:
        found = _read_url(folder)
    elif "/v1/" not in found:
        project = os.environ.get("SEAWALL_PROJECT_ID")
        if project is None:
            raise InvalidInputError.of(
                "SEAWALL_PROJECT_ID", None, "is needed when the URL does not end with /v1/<project id>"
            )
        found = f"{found.rstrip('/')}/v1/{project}"
    return Address(found, os.environ.get("SEAWALL_TOKEN") or _read_token(folder))


def _read_url(folder: DataFolder) -> str:
    try:
        return folder.api_url.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ServiceUnreachableError(
            f"no service has said where it answers in {folder.path}",
            hint="`seawall serve` starts one; --data-dir or SEAWALL_DATA_DIR names another data folder",
        ) from None
    except OSError as error:
        raise ServiceUnreachableError(
            f"{folder.api_url} cannot be read: {error.strerror}",
            hint="run this as the user that runs Seawall, or set SEAWALL_URL and SEAWALL_TOKEN",
        ) from error


def _read_token(folder: DataFolder) -> str:
    try:
        return folder.admin_token.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UnauthenticatedError(
            f"the token in {folder.admin_token} cannot be read: {error.strerror}",
            hint="run this as the user that runs Seawall, or set SEAWALL_TOKEN",
        ) from error
