# SPDX-License-Identifier: Apache-2.0
"""The log: lines for machines and people, and no secret in either (I10)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from seawall.runtime.logging import REDACTED, get_logger, set_up_logging

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configuration = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configuration)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_is_replaced_at_any_depth(form: str) -> None:
    stream = io.StringIO()
    set_up_logging(form=form, stream=stream)
    get_logger("test").info(
        "told",
        password=SECRET,
        recovery_key=SECRET,
        nested={"Authorization": SECRET, "list": [{"api_key": SECRET}]},
        pair=("x", {"X-Auth-Token": SECRET}),
        idempotency_key="shown",
    )

    assert SECRET not in stream.getvalue()
    assert REDACTED in stream.getvalue()
    assert "shown" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_values_of_local_variables(form: str) -> None:
    stream = io.StringIO()
    set_up_logging(form=form, stream=stream)

    def fail(word: str) -> None:
        raise ValueError(len(word))

    try:
        fail(SECRET)
    except ValueError:
        get_logger("test").exception("failed")

    assert "ValueError: 7" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_libraries_log_through_the_same_lines_without_their_secrets() -> None:
    stream = io.StringIO()
    set_up_logging(form="json", stream=stream)
    logging.getLogger("library").warning("told", extra={"access_key": SECRET, "place": "here"})

    (line,) = lines(stream)
    assert (line["event"], line["level"], line["access_key"], line["place"]) == (
        "told",
        "warning",
        REDACTED,
        "here",
    )


def test_what_lies_below_the_level_is_not_written_and_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up_logging(form="json", stream=first)
    set_up_logging(level="warning", form="json", stream=second)
    get_logger("test").info("too low")
    get_logger("test").warning("high enough")

    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["high enough"]


def test_an_exception_is_one_line_of_json() -> None:
    stream = io.StringIO()
    set_up_logging(form="json", stream=stream)
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        get_logger("test").exception("failed")

    (line,) = lines(stream)
    assert "RuntimeError: broken" in str(line["exception"])
