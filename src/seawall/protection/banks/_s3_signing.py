# SPDX-License-Identifier: Apache-2.0
"""Signed addresses of questions about a bucket that the client library does not ask (SigV4 in the query)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_VALID_S: Final = 300


def signed_address(
    method: str,
    address: str,
    *,
    query: Mapping[str, str],
    region: str,
    access_key_id: str,
    secret_access_key: str,
    token: str | None,
    at: str,
) -> str:
    """The address with its signature, valid for five minutes from ``at`` (``YYYYMMDDTHHMMSSZ``).

    ``address`` is that of a bucket or an object, without a query. The result lets anybody do this one
    thing until then: never log it.
    """
    scope = f"{at[:8]}/{region}/s3/aws4_request"
    asked = {
        **query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{access_key_id}/{scope}",
        "X-Amz-Date": at,
        "X-Amz-Expires": str(_VALID_S),
        "X-Amz-SignedHeaders": "host",
    }
    if token is not None:
        asked["X-Amz-Security-Token"] = token
    encoded = urlencode(sorted(asked.items()), quote_via=quote, safe="")
    parts = urlsplit(address)
    request = "\n".join(
        (method, quote(parts.path) or "/", encoded, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD")
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.digest(key, "\n".join((_ALGORITHM, at, scope, digest)).encode(), hashlib.sha256).hex()
    return f"{address}?{encoded}&X-Amz-Signature={signature}"
