# SPDX-License-Identifier: Apache-2.0
"""Patterns: what is left out of a backup, in the words that restic's ``--exclude`` takes.

``*``, ``?`` and ``[...]`` match within one name, ``**`` any folders; a pattern that begins with ``/`` is
matched from the root of the file system, any other one at every folder. What a pattern matches is left out
with all below. ``!`` before a pattern takes back what an earlier one left out; the last that matches decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from seawall.core.errors import InvalidInputError


def _name_regex(part: str, pattern: str) -> str:
    out = []
    at = 0
    while at < len(part):
        letter = part[at]
        at += 1
        if letter == "*":
            out.append("[^/]*")
        elif letter == "?":
            out.append("[^/]")
        elif letter == "\\" and at < len(part):
            out.append(re.escape(part[at]))
            at += 1
        elif letter == "[":
            end = part.find("]", at + 1)
            if end < 0:
                raise InvalidInputError.of("patterns", pattern, "has a `[` without its `]`")
            inside = part[at:end]
            negated = inside[:1] in ("^", "!")
            body = inside[1:] if negated else inside
            escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", body)
            out.append(f"(?!/)[{'^' if negated else ''}{escaped}]")
            at = end + 1
        else:
            out.append(re.escape(letter))
    return "".join(out)


def _regex(pattern: str) -> re.Pattern[str]:
    parts = [part for part in pattern.split("/") if part and part != "."]
    if not parts or ".." in parts:
        raise InvalidInputError.of("patterns", pattern, "must name something, without `..`")
    text = "" if pattern.startswith("/") else "(?:/[^/]+)*"
    for part in parts:
        text += "(?:/[^/]+)*" if part == "**" else "/" + _name_regex(part, pattern)
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise InvalidInputError.of("patterns", pattern, f"is no pattern: {error}") from None


class Patterns:
    """A list of patterns, checked; ``InvalidInputError`` names the one that is none."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._rules = [
            (not pattern.startswith("!"), _regex(pattern.removeprefix("!"))) for pattern in patterns
        ]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def exclude(self, path: str) -> bool:
        """Whether an absolute path, whose folder is not left out, is to be left out."""
        for leaves_out, rule in reversed(self._rules):
            if rule.fullmatch(path):
                return leaves_out
        return False
