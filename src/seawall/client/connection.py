# SPDX-License-Identifier: Apache-2.0
"""One connection to the API: JSON in, JSON out; a fault is raised as the error that the service raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import orjson

from seawall.client.address import Address
from seawall.core.errors import (
    ConflictError,
    FieldFault,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    SeawallError,
    ServiceUnreachableError,
    UnauthenticatedError,
    UnavailableError,
)

Json = dict[str, Any]
_TIMEOUT_S = 60.0
_STREAM_TIMEOUT_S = 300.0


class Connection:
    """Use as a context manager. One thread at a time."""

    def __init__(self, address: Address, *, transport: httpx.BaseTransport | None = None) -> None:
        """``transport`` reaches an application in this process; by default a socket is used."""
        self._url = address.url
        self._client = httpx.Client(
            base_url=address.url,
            headers={"X-Auth-Token": address.token, "Accept": "application/json"},
            timeout=_TIMEOUT_S,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        /,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Json:
        """One request below ``/v1/<project>``; values of ``query`` may be bytes.

        The error that the service raised for what it refused, ``ServiceUnreachableError``
        when it did not answer: whether a change was made is then unknown.
        """
        content = None if body is None else orjson.dumps(body)
        kind = {} if content is None else {"Content-Type": "application/json"}
        try:
            answer = self._client.request(
                method, _target(path, query), content=content, headers={**kind, **(headers or {})}
            )
        except httpx.TransportError as error:
            raise ServiceUnreachableError(
                f"{self._url} does not answer: {error or type(error).__name__}"
            ) from error
        if answer.is_success:
            return dict(orjson.loads(answer.content)) if answer.content else {}
        raise _fault(answer)

    @contextmanager
    def stream(self, path: str, /, **query: Any) -> Iterator[Iterator[bytes]]:
        """The bytes of an answer, piece by piece.

        Errors as ``call``; when it breaks off, the iterator raises ``ServiceUnreachableError``: what came is
        not whole.
        """
        begun = False
        try:
            with self._client.stream(
                "GET", _target(path, query), headers={"Accept": "*/*"}, timeout=_STREAM_TIMEOUT_S
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _fault(answer)
                begun = True
                yield answer.iter_raw()
        except httpx.TransportError as error:
            what = "broke off in the middle of its answer" if begun else "does not answer"
            raise ServiceUnreachableError(f"{self._url} {what}: {error or type(error).__name__}") from error

    def items(self, path: str, many: str, **query: Any) -> Iterator[Json]:
        """All items of a list, page after page."""
        marker: str | None = None
        while True:
            page = self.call("GET", path, marker=marker, **query)
            found: list[Json] = page[many]
            yield from found
            if not page.get(f"{many}_links") or not found:
                return
            marker = str(found[-1]["id"])


def _target(path: str, query: Mapping[str, Any]) -> str:
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in query.items()
        if value is not None
    }
    return f"{path}?{urlencode(given)}" if given else path


def _fault(answer: httpx.Response) -> SeawallError:
    """The error that the service raised, as far as its answer tells."""
    try:
        content = next(iter(orjson.loads(answer.content).values()))
        message = str(content["message"])
    except (orjson.JSONDecodeError, StopIteration, AttributeError, TypeError, KeyError):
        return _BY_STATUS.get(answer.status_code, SeawallError)(
            f"the service answered {answer.status_code} without a reason"
        )
    hint = str(content.get("hint", ""))
    if errors := content.get("errors"):
        return InvalidInputError([_RemoteField(one["field"], one["message"]) for one in errors], hint=hint)
    kind = _class_of(str(content.get("error_code", ""))) or _BY_STATUS.get(answer.status_code, SeawallError)
    return kind(message, hint=hint)


class _RemoteField(FieldFault):
    """A field fault in the words of the service."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, None, message)

    def __str__(self) -> str:
        return self.rule


_BY_STATUS: Mapping[int, type[SeawallError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    503: UnavailableError,
}


def _class_of(code: str) -> type[SeawallError] | None:
    """The class of this code; None for codes that this version does not know."""
    classes: list[type[SeawallError]] = [SeawallError]
    for one in classes:
        classes += one.__subclasses__()
    return next((one for one in classes if one.code == code and not issubclass(one, InvalidInputError)), None)
