# SPDX-License-Identifier: Apache-2.0
"""Logging: structlog for us and for the libraries below, as console lines or JSON lines on stderr.

A value whose key names a secret is replaced before it is rendered (I10). Log once, where a thing is handled.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
# A key that contains one of these words holds a secret. `key` alone is too common (idempotency, bank keys).
_SECRET = re.compile(
    r"password|passwd|secret|token|credential|authorization|cookie"
    r"|(api|install|recovery|private|access|master|sealed|encryption)[_-]?key",
    re.IGNORECASE,
)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace secrets at any depth, by the name of their key."""
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: object, value: Any) -> Any:
    if isinstance(name, str) and _SECRET.search(name):
        return REDACTED if value not in (None, "") else value
    if isinstance(value, dict):
        return {key: _clean(key, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(None, inner) for inner in value]
    return value


def set_up_logging(*, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send all logging of this process to ``stream`` (stderr). May be called again; the last one counts."""
    target = sys.stderr if stream is None else stream
    as_json = form == "json" or (form == "auto" and not target.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    last: list[Processor]
    if as_json:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        # Plain on purpose: the default one shows the values of local variables, and those may be secrets.
        renderer = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        last = [renderer]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Each request is logged by our own API with its request id; alembic says every step at info.
    for noisy in ("uvicorn.access", "uvicorn.error", "alembic", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes ``event, key=value``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
