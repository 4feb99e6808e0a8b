# SPDX-License-Identifier: Apache-2.0
"""Request bodies: bytes to JSON that can be stored and given back unchanged, or a clear refusal.

Stricter than most readers: a name that stands twice, a number that two readers would read differently, text
that a database cannot hold, and nesting without end are refused, each with the place where it stands.
"""

from __future__ import annotations

import json
import math
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from seawall.core.errors import InvalidInputError

MAX_DEPTH = 32
_WHOLE_NUMBER_LIMIT = 2**53
_MOST_DIGITS = 20


def parse(content: bytes) -> Any:
    """The document in a body; ``InvalidInputError`` says what is wrong with it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError.of("body", f"byte {error.start}", "is not UTF-8 text") from error
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInputError.of("body", where, f"is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise _too_deep(()) from error
    _check(value, ())
    return value


def router(tag: str, prefix: str = "") -> APIRouter:
    """A router whose routes read their bodies by ``parse``."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=_DocumentRoute)


class _DocumentRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class _DocumentRoute(APIRoute):
    def get_route_handler(self) -> Any:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            scope: Scope = request.scope
            receive: Receive = request.receive
            send: Send = request._send
            return await handler(_DocumentRequest(scope, receive, send))

        return handle


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, value in pairs:
            if name in seen:
                raise InvalidInputError.of(name, value, "stands twice in one object")
            seen.add(name)
    return found


def _whole_number(text: str) -> int | float:
    # More digits than any number that is accepted: not worth the time that turning them into one takes.
    return int(text) if len(text) <= _MOST_DIGITS else math.inf


def _check(value: Any, path: tuple[str, ...]) -> None:
    if len(path) > MAX_DEPTH:
        raise _too_deep(path)
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int | float):
        is_whole = isinstance(value, int)
        if not math.isfinite(value) or (is_whole and abs(value) > _WHOLE_NUMBER_LIMIT):
            rule = "must be finite, and a whole number must lie between -2^53 and 2^53"
            raise InvalidInputError.of(_name(path), value, rule)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key, path)
            _check(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check(inner, (*path, str(number)))


def _check_text(text: str, path: tuple[str, ...]) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInputError.of(_name(path), text, "must be text without NUL and without lone surrogates")


def _too_deep(path: tuple[str, ...]) -> InvalidInputError:
    return InvalidInputError.of(
        _name(path[:2]), "(a document)", f"must not be nested deeper than {MAX_DEPTH} levels"
    )


def _name(path: tuple[str, ...]) -> str:
    """A field as the services name it: without the one key that wraps a body."""
    return ".".join(path[1:] or path) or "body"
