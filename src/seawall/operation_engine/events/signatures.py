# SPDX-License-Identifier: Apache-2.0
"""The signature of a webhook request. Pure; ``docs/events.md`` shows how a sender makes it.

Signed is ``<timestamp>\\n<idempotency key>\\n<body>``: so a request that was overheard can be sent again
neither later, nor under another key, nor with another body. A header holds no line end, so the three cannot
be cut in two ways.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

PREFIX = "sha256="
SECRET_PREFIX = "whs_"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_SIGNATURE = re.compile(r"sha256=[0-9a-fA-F]{64}")


def new_secret() -> str:
    """A secret for one trigger: 256 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def sign(secret: str, *, timestamp: str, key: str, body: bytes) -> str:
    """What stands in ``Seawall-Signature``; ``key`` is empty when there is no ``Idempotency-Key``."""
    text = f"{timestamp}\n{key}\n".encode() + body
    return PREFIX + hmac.digest(secret.encode(), text, hashlib.sha256).hex()


def is_signed(
    secret: str, signature: str, *, timestamp: str, key: str, body: bytes, now_s: float, replay_s: float
) -> bool:
    """Whether the signature is right and not older, or newer, than ``replay_s`` seconds.

    The comparison takes as long whatever the signature is.
    """
    is_right = hmac.compare_digest(
        sign(secret, timestamp=timestamp, key=key, body=body).encode(),
        signature.lower().encode("utf-8", "replace") if _SIGNATURE.fullmatch(signature) else b"",
    )
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12
    return is_right and is_number and abs(now_s - int(timestamp)) <= replay_s


def is_key(key: str) -> bool:
    """Whether an ``Idempotency-Key`` can be one."""
    return _KEY.fullmatch(key) is not None


def event_id(*, timestamp: str, key: str, body: bytes) -> str:
    """What makes a request the same event: its key, or else its timestamp and body.

    The timestamp is in it so that a sender whose body never changes fires each time; one that repeats a
    request because it got no answer uses a key, or sends the very same request again.
    """
    if key:
        return f"key:{key}"
    return "sha256:" + hashlib.sha256(f"{timestamp}\n".encode() + body).hexdigest()
