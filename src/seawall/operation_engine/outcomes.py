# SPDX-License-Identifier: Apache-2.0
"""Carrying out one run, and what its end means: success, failed, cancelled, or tried again."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from seawall.core.errors import CancelledError, LeaseLostError, RunError, SeawallError
from seawall.core.states import RunState
from seawall.db import runs
from seawall.db.runs import ClaimedRun, Outcome
from seawall.operation_engine.context import RunContext
from seawall.runtime.logging import REDACTED, get_logger
from seawall.sdk.operation import Json

if TYPE_CHECKING:
    from seawall.runtime.registry import Plugins
    from seawall.sdk.operation import Operation

log = get_logger(__name__)

_LONGEST_MESSAGE = 4000
# What an exception of a library may carry in its text (I10): credentials in a URL, and values named secret.
_IN_URL = re.compile(r"(?<=://)[^/\s:@]*:[^@\s/]+(?=@)")
_NAMED = re.compile(
    r"(?i)\b([\w-]*(?:password|passwd|secret|token|credential|authorization|api[_-]?key|access[_-]?key)[\w-]*"
    r"['\"]?\s*[=:]\s*)(?:bearer\s+|basic\s+)?(\"[^\"]*\"|'[^']*'|[^\s,;&)}\]]+)"
)


def carry_out(operations: Plugins[Operation], claimed: ClaimedRun, context: RunContext) -> Outcome | None:
    """Call the operation; how it ended, or None when nothing may be recorded any more (I3). Never raises."""
    try:
        context.check()
        operation = operations.get(claimed.operation_type)()
        answer = operation.run(claimed.definition, context)
        if inspect.isawaitable(answer):
            answer = asyncio.run(_awaited(answer, context))
        result = _storable(answer)
    except BaseException as error:  # noqa: BLE001 - whatever an operation raises is the outcome of its run
        return _of_error(claimed, context, error)
    return Outcome(claimed.row, claimed.fence, RunState.SUCCESS, result=result)


async def carry_out_async(
    operations: Plugins[Operation], claimed: ClaimedRun, context: RunContext
) -> Outcome | None:
    """As ``carry_out``, within the event loop of the executor."""
    try:
        context.check()
        operation = operations.get(claimed.operation_type)()
        answer = operation.run(claimed.definition, context)
        if inspect.isawaitable(answer):
            answer = await _awaited(answer, context)
        result = _storable(answer)
    except BaseException as error:  # noqa: BLE001 - whatever an operation raises is the outcome of its run
        return _of_error(claimed, context, error)
    return Outcome(claimed.row, claimed.fence, RunState.SUCCESS, result=result)


def async_types(operations: Plugins[Operation]) -> frozenset[str]:
    """The types whose ``run`` is ``async def``."""
    known = operations.items()
    return frozenset(name for name, one in known.items() if inspect.iscoroutinefunction(one.run))


async def _awaited(answer: Awaitable[Any], context: RunContext) -> Any:
    """Await it; a stop of the run cancels whatever it waits for."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # this is a coroutine
    context.on_stop(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await answer
    finally:
        context.on_stop(None)


def not_submitted(claimed: ClaimedRun, error: Exception) -> Outcome:
    """The executor would not take it (M8)."""
    message = f"the executor did not take it: {safe_text(error)}"
    log.error("a run could not be submitted", run_id=claimed.id, reason=message)
    document = {"code": "not_submitted", "message": message}
    return Outcome(claimed.row, claimed.fence, RunState.FAILED, reason=message, error=document)


def safe_text(error: BaseException) -> str:
    """Type and message of an exception that is not ours, without what looks like a secret (I10)."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return without_secrets(text)[:_LONGEST_MESSAGE]


def without_secrets(text: str) -> str:
    """The text with credentials in URLs and values named as secrets replaced."""
    return _NAMED.sub(rf"\1{REDACTED}", _IN_URL.sub(REDACTED, text))


def _storable(result: Any) -> Json | None:
    if result is None:
        return None
    try:
        return dict(orjson.loads(orjson.dumps(dict(result))))
    except (TypeError, ValueError) as error:
        raise RunError(f"its result cannot be stored: {error}") from error


def _of_error(claimed: ClaimedRun, context: RunContext, error: BaseException) -> Outcome | None:
    why = context.why
    lost = why if isinstance(why, LeaseLostError) else error
    if isinstance(lost, LeaseLostError):
        if context.is_handed_back:
            log.info("a run is handed back", run_id=claimed.id, fence=claimed.fence)
        else:
            log.warning(
                "the work on a run ends here", run_id=claimed.id, fence=claimed.fence, reason=str(lost)
            )
        return None
    if isinstance(why, CancelledError):
        return Outcome(claimed.row, claimed.fence, RunState.CANCELLED, reason=_cancelled(why, error))
    if why is not None:
        # What breaks once the time is up breaks because of it.
        error = why
    document = _document(claimed, error)
    reason = str(document["message"])
    at = _again_at(claimed, error, context.now())
    if at is None:
        return Outcome(claimed.row, claimed.fence, RunState.FAILED, reason=reason, error=document)
    context.log("warning", f"attempt {claimed.attempt} failed and is repeated at {at.isoformat()}: {reason}")
    return Outcome(
        claimed.row, claimed.fence, RunState.QUEUED, reason=reason, error=document, not_before_at=at
    )


def _cancelled(why: SeawallError, error: BaseException) -> str:
    if isinstance(error, CancelledError | asyncio.CancelledError):
        return "cancelled"
    text = str(error) if isinstance(error, SeawallError) else safe_text(error)
    return f"cancelled; it ended with: {text}"


def _document(claimed: ClaimedRun, error: BaseException) -> Json:
    if isinstance(error, SeawallError):
        log.warning(
            "a run failed", run_id=claimed.id, operation_type=claimed.operation_type, code=error.code,
            reason=error.message,
        )  # fmt: skip
        document: Json = {"code": error.code, "message": error.message}
        if error.shown_hint:
            document["hint"] = error.shown_hint
        return document
    text = safe_text(error)
    # Once, here: the traceback is for whoever mends the operation, not for the user of the run.
    log.error(
        "an operation raised what it should not", run_id=claimed.id, operation_type=claimed.operation_type,
        exc_info=error,
    )  # fmt: skip
    return {"code": "unexpected", "message": text, "type": type(error).__name__}


def _again_at(claimed: ClaimedRun, error: BaseException, now: datetime) -> datetime | None:
    """Retryable errors and what an operation raises by surprise are tried again by policy; never what says
    that trying again is of no use (I4)."""
    if isinstance(error, SeawallError) and not error.retryable:
        return None
    if not isinstance(error, Exception):
        return None
    return runs.retry_at(claimed, now)
