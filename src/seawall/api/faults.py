# SPDX-License-Identifier: Apache-2.0
"""Errors as the API shows them: one table, Karbor's shape, nothing of our inside.

``{"badRequest": {"code": 400, "message": "...", "errors": [{"field", "message"}], "hint": "...",
"request_id": "req-..."}}``. Clients take the first value of the object, whatever its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from seawall.core.errors import FieldFault, InvalidInputError, SeawallError

_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
    503: "serviceUnavailable",
}

# What pydantic calls a fault -> the rule that was broken, in our words. ``{...}`` is filled from its context.
_RULES = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} entry(ies)",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_unicode": "must be proper Unicode text",
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
    "none_required": "must be null",
    "datetime_parsing": "must be a time with its zone, e.g. 2026-03-01T02:00:00Z",
    "datetime_from_date_parsing": "must be a time with its zone, e.g. 2026-03-01T02:00:00Z",
    "timezone_aware": "must be a time with its zone, e.g. 2026-03-01T02:00:00Z",
}


def fault_name(status: int) -> str:
    """The one key of a fault of this status."""
    return _NAMES.get(status, "computeFault")


def fault(
    status: int,
    message: str,
    *,
    request_id: str,
    errors: Sequence[FieldFault] = (),
    hint: str = "",
    code: str = "",
) -> dict[str, Any]:
    """The body of a fault."""
    content: dict[str, Any] = {"code": status, "message": message}
    if status == 413:
        content["retryAfter"] = "0"
    if errors:
        content["errors"] = [{"field": one.field, "message": str(one)} for one in errors]
    if hint:
        content["hint"] = hint
    if code:
        content["error_code"] = code
    content["request_id"] = request_id
    return {fault_name(status): content}


def request_id_of(request: Request) -> str:
    """The id that the edge middleware gave this request."""
    return str(request.scope.get("seawall_request_id", ""))


def on_seawall_error(request: Request, error: Exception) -> JSONResponse:
    """Every error that was raised on purpose."""
    assert isinstance(error, SeawallError)
    body = fault(
        error.status,
        error.message,
        request_id=request_id_of(request),
        errors=error.fields if isinstance(error, InvalidInputError) else (),
        hint=error.shown_hint,
        code=error.code,
    )
    headers = {"Retry-After": "5"} if error.retryable else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, error.status, headers)


def on_validation_error(request: Request, error: Exception) -> JSONResponse:
    """A body or query that does not fit its schema."""
    assert isinstance(error, RequestValidationError)
    found = InvalidInputError(
        [_field_fault(one) for one in error.errors()], hint=_body_hint(request, error.errors())
    )
    return on_seawall_error(request, found)


def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses: unknown path or method, unreadable body."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, SeawallError):  # what reading a body has raised
        return on_seawall_error(request, error.__cause__)
    status = error.status_code
    if status == 404:
        message = f"there is nothing at {request.url.path}"
    elif status == 405:
        message = f"{request.method} is not possible at {request.url.path}"
    elif status == 400:
        message = "the body cannot be read as JSON"
    else:
        message = str(error.detail)
    body = fault(status, message, request_id=request_id_of(request))
    return JSONResponse(body, status, error.headers)


def _field_fault(found: Mapping[str, Any]) -> FieldFault:
    where = [str(part) for part in found["loc"]]
    if where and where[0] in ("body", "query", "path", "header"):
        where = where[1:]
    kind = str(found["type"])
    if kind == "json_invalid":
        return FieldFault("body", found.get("ctx", {}).get("error", ""), "is not JSON")
    if kind in ("model_attributes_type", "dict_type", "model_type") and not where:
        return FieldFault("body", _shown(found.get("input")), "must be a JSON object")
    if kind == "missing" and not where:
        return FieldFault("body", None, "is missing")
    # Below the one key that wraps a body, fields are named as the services name them.
    inner = where[1:] if found["loc"][:1] == ("body",) and len(where) > 1 else where
    context = found.get("ctx", {})
    if kind == "value_error":
        rule = str(context.get("error", found["msg"]))
    else:
        rule = _RULES.get(kind, str(found["msg"]))
        try:
            rule = rule.format(**context)
        except KeyError:
            rule = str(found["msg"])
    value = None if kind == "missing" else _shown(found.get("input"))
    return FieldFault(".".join(inner) or "body", value, rule)


def _shown(value: Any) -> Any:
    """A value that is safe to repeat: big or nested ones by their kind only."""
    if isinstance(value, bytes):
        return "(bytes)"
    if isinstance(value, dict | list):
        text = repr(value)
        return value if len(text) <= 120 else f"({type(value).__name__} of {len(value)})"
    return value


def _body_hint(request: Request, errors: Sequence[Mapping[str, Any]]) -> str:
    is_of_body = any(tuple(one["loc"]) in (("body",), ()) or one["type"] == "json_invalid" for one in errors)
    kind = request.headers.get("content-type", "")
    if is_of_body and "json" not in kind:
        return f"send JSON with Content-Type: application/json, not {kind or 'none'}"
    return ""
