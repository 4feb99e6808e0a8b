# SPDX-License-Identifier: Apache-2.0
"""Frames: JSON objects over a pipe, each after its length in four bytes.

    service -> mover   {"call": name, "arguments": {...}}        one at a time
    mover -> service   {"progress": [bytes, items]}              any number, a few each second
    mover -> service   {"bytes": n}, then n bytes as they are    any number, of a call that is a stream
    mover -> service   {"ask": "confirm"}                        right before a commit point
    service -> mover   {"go": true}                              its answer; to refuse, the mover is ended
    mover -> service   {"result": {...}} or {"error": {...}}     the end of the call

Secrets travel here and nowhere else: no argument, no environment (I10).
"""

from __future__ import annotations

import os
import struct
from typing import Any, Final

import orjson

from seawall.core import errors
from seawall.core.errors import FieldFault, InvalidInputError, RunError, SeawallError

Json = dict[str, Any]

_HEAD: Final = struct.Struct(">I")
PIECE_BYTES: Final = 256 * 1024
"""So many bytes of a stream go together, but for the last ones."""
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""More is no frame of ours."""


def _known() -> dict[str, type[SeawallError]]:
    return {
        name: one
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, SeawallError)
    }


_ERRORS: Final = _known()


def write(descriptor: int, frame: Json) -> None:
    """Write one frame whole. ``BrokenPipeError`` when nobody reads any more."""
    body = orjson.dumps(frame)
    left = memoryview(_HEAD.pack(len(body)) + body)
    while left:
        left = left[os.write(descriptor, left) :]


def write_piece(descriptor: int, piece: bytes | memoryview) -> None:
    """Write a piece of a stream after its frame. ``BrokenPipeError`` as in ``write``."""
    write(descriptor, {"bytes": len(piece)})
    left = memoryview(piece)
    while left:
        left = left[os.write(descriptor, left) :]


def read(descriptor: int) -> Json | None:
    """The next frame; None when the other side has closed its end, even in the middle of one."""
    head = read_bytes(descriptor, _HEAD.size)
    if head is None:
        return None
    (length,) = _HEAD.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise RunError(f"a frame of {length} bytes came over the pipe of a mover; that is none of ours")
    body = read_bytes(descriptor, length)
    return None if body is None else dict(orjson.loads(body))


def read_bytes(descriptor: int, length: int) -> bytes | None:
    """So many bytes; None when the other side has closed its end before."""
    parts = []
    while length:
        part = os.read(descriptor, min(length, 1 << 20))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def error_frame(error: BaseException) -> Json:
    """An error as a frame; one that is no ``SeawallError`` is our own bug and keeps its kind in words."""
    if not isinstance(error, SeawallError):
        return {
            "error": {"type": "RunError", "message": f"the mover failed: {type(error).__name__}: {error}"}
        }
    found: Json = {"type": type(error).__name__, "message": error.message, "hint": error.shown_hint}
    if isinstance(error, InvalidInputError):
        found["fields"] = [[one.field, str(one.value), one.rule] for one in error.fields]
    return {"error": found}


def raised(found: Json) -> SeawallError:
    """The error of an error frame, as it was raised there."""
    kind = _ERRORS.get(str(found.get("type")), RunError)
    hint = found.get("hint")
    if issubclass(kind, InvalidInputError):
        fields = [FieldFault(*one) for one in found.get("fields", ())]
        return kind(fields, hint=hint)
    return kind(str(found.get("message")), hint=hint)


def shown(text: str) -> str:
    """File names may be any bytes; what is told about them is text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
