# SPDX-License-Identifier: Apache-2.0
"""Whether a message is meant: routing key patterns as a topic exchange reads them, and equality on paths."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_KEY_BYTES = 255
_MOST_WORDS = 32
_MOST_STEPS = 16
_LONGEST_TEXT = 1024
_WORD = re.compile(r"[^\s.*#\x00-\x1f\x7f]+|\*|#")
_STEP = re.compile(r"[^\s.\x00-\x1f\x7f]{1,128}")


def fault_of_pattern(value: Any) -> str | None:
    """The rule that a routing key pattern breaks; None when it is one."""
    if not isinstance(value, str) or not value or len(value.encode("utf-8", "replace")) > MAX_KEY_BYTES:
        return f"must be a routing key pattern of 1 to {MAX_KEY_BYTES} bytes, e.g. host.*.snapshot.#"
    words = value.split(".")
    if len(words) > _MOST_WORDS or not all(_WORD.fullmatch(word) for word in words):
        return f"must be at most {_MOST_WORDS} words with dots between; * is one word, # any number of them"
    return None


def fault_of_path(value: Any) -> str | None:
    """The rule that the path of a condition breaks; None when it is one."""
    is_text = isinstance(value, str)
    steps = value.split(".") if is_text else []
    if not is_text or len(steps) > _MOST_STEPS or not all(_STEP.fullmatch(step) for step in steps):
        return f"must be a path into the event's data of at most {_MOST_STEPS} names, e.g. volume.id"
    return None


def is_comparable(value: Any) -> bool:
    """Whether a condition may want this value."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return (
        value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    )


def has_routing_key(pattern: str, key: str) -> bool:
    """As a topic exchange decides: ``*`` is one word, ``#`` any number of them, none included."""
    words = key.split(".") if key else []
    # The lengths of what the words matched so far may have consumed: never more than there are words.
    reached = {0}
    for wanted in pattern.split("."):
        if wanted == "#":
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and wanted in ("*", words[at])}
        if not reached:
            return False
    return len(words) in reached


def has_values(conditions: Mapping[str, Any], data: Any) -> bool:
    """Whether every path leads to its value. A number in a path is a place in a list; types must agree, but
    for whole and broken numbers that are equal."""
    return all(_equal(_at(data, path.split(".")), wanted) for path, wanted in conditions.items())


_NOWHERE = object()


def _at(data: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(data, Mapping):
            data = data.get(step, _NOWHERE)
        elif isinstance(data, list) and step.isascii() and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
        else:
            return _NOWHERE
    return data


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return found is not _NOWHERE and type(found) in _kin(wanted) and bool(found == wanted)


def _kin(wanted: Any) -> tuple[type, ...]:
    return (int, float) if isinstance(wanted, int | float) else (type(wanted),)
