# SPDX-License-Identifier: Apache-2.0
"""Who asks, for which project, and a request that must be carried out once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Header, Path, Request, Response, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from seawall.api import policy
from seawall.api.faults import request_id_of
from seawall.api.ports import Ports
from seawall.core.caller import Caller
from seawall.core.errors import (
    DatabaseUnavailableError,
    InvalidInputError,
    SeawallError,
    UnauthenticatedError,
)

Answer = TypeVar("Answer", bound=BaseModel)


def ports_of(request: Request) -> Ports:
    """The services that this application was built with."""
    return cast(Ports, request.app.state.ports)


_TOKEN = APIKeyHeader(name="X-Auth-Token", auto_error=False, description="an API token")
_BEARER = HTTPBearer(auto_error=False, description="an API token")


def authenticate(
    request: Request,
    token: Annotated[str | None, Security(_TOKEN)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Caller:
    """The caller of a request, from either header."""
    given = token or (None if bearer is None else bearer.credentials)
    if not given:
        raise UnauthenticatedError("this needs a token")
    found = ports_of(request).tokens.authenticate(given)
    if found is None:
        raise UnauthenticatedError("the token is unknown or has expired")
    return replace(found, request_id=request_id_of(request))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose caller is known and belongs to the project in its path."""

    caller: Caller
    ports: Ports
    request: Request


def asked(
    request: Request,
    caller: Annotated[Caller, Depends(authenticate)],
    project_id: Annotated[str, Path(description="the token's project, dashes optional")],
) -> Asked:
    """Refuse a path of another project than the token's, as Karbor does, and what the role may not (I11)."""
    if project_id.replace("-", "").lower() != caller.project_id.replace("-", "").lower():
        error = InvalidInputError.of("project_id", project_id, "is not the project of this token")
        error.message = f"Malformed request url: {error.message}"
        raise error
    policy.require(caller, request.scope["route"].name)
    for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
        if not name:
            raise InvalidInputError.of("query", f"={value}", "must have a name before each =")
        if "\x00" in name or "\x00" in str(value):
            raise InvalidInputError.of(name, value, "must be text without NUL")
    return Asked(caller, ports_of(request), request)


class Once:
    """Carries a POST out once for each ``Idempotency-Key``; without the header, simply carries it out."""

    def __init__(self, asked: Asked, response: Response, key: str | None) -> None:
        self._asked = asked
        self._response = response
        self.key = key

    def __call__(self, body: BaseModel | None, answer: type[Answer], act: Callable[[], Answer]) -> Answer:
        """The answer of ``act``, or what the first request with this key was answered.

        If the process dies in the middle, the key stays reserved: a repeat is refused, never run again.
        """
        if self.key is None:
            return act()
        keys, caller = self._asked.ports.idempotency, self._asked.caller
        found = keys.reserve(
            project_id=caller.project_id,
            key=self.key,
            fingerprint=self._fingerprint(body),
            request_id=caller.request_id,
        )
        if found is not None:
            self._response.headers["Idempotency-Replayed"] = "true"
            return answer.model_validate(found[1])
        try:
            made = act()
        except DatabaseUnavailableError:
            # Whether the commit was reached is not known: the key stays reserved, as after a crash.
            raise
        except SeawallError:
            # Refused, so nothing was changed: the same key may be used for the mended request.
            keys.release(project_id=caller.project_id, key=self.key)
            raise
        keys.answer(
            project_id=caller.project_id,
            key=self.key,
            status=200,
            body=made.model_dump(mode="json"),
        )
        return made

    def _fingerprint(self, body: BaseModel | None) -> str:
        text = "" if body is None else body.model_dump_json()
        request = self._asked.request
        return hashlib.sha256(f"{request.method} {request.url.path}\n{text}".encode()).hexdigest()


async def once(
    asked: Annotated[Asked, Depends(asked)],
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=255, min_length=1)] = None,
) -> Once:
    """The ``Idempotency-Key`` header of a POST."""
    return Once(asked, response, idempotency_key)


AskedDep = Annotated[Asked, Depends(asked)]
OnceDep = Annotated[Once, Depends(once)]
