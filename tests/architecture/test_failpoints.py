# SPDX-License-Identifier: Apache-2.0
"""Every act that makes something durable can be killed at, right before and right after."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.crash.elsewhere import ELSEWHERE
from tests.support.failpoint_names import called, failpoint_names, trees

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def _is_durable_act(node: ast.Call) -> bool:
    """fsync, rename and link, of ``os`` or of a path; not ``str.replace`` or ``datetime.replace``."""
    name = called(node)
    if name in ("fsync", "fdatasync", "rename", "link", "hardlink_to"):
        return True
    if name != "replace" or not isinstance(node.func, ast.Attribute):
        return False
    if isinstance(node.func.value, ast.Name) and node.func.value.id == "os":
        return True
    return len(node.args) == 1 and not node.keywords


def _unguarded() -> Iterator[str]:
    for path, tree in trees():
        for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTION)):
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            points = [node.lineno for node in calls if called(node) == "failpoint"]
            for act in (node for node in calls if _is_durable_act(node)):
                if not any(line < act.lineno for line in points) or not any(
                    line > act.lineno for line in points
                ):
                    yield f"{path}:{act.lineno}: {ast.unparse(act)}"


def test_every_durable_act_has_a_failpoint_before_and_after_it() -> None:
    assert list(_unguarded()) == []


def test_failpoints_are_named_part_what_before_or_after_act() -> None:
    name = re.compile(r"[a-z_]+(\.[a-z_]+)+\.(before|after)_[a-z_]+")
    assert [one for one in failpoint_names() if not name.fullmatch(one)] == []


def test_what_the_round_of_power_cuts_leaves_out_is_killed_at_by_the_test_that_is_named() -> None:
    """By the whole name, or without its first word where a test puts that before all of its own."""
    project = Path(__file__).parents[2]
    assert ELSEWHERE.keys() - failpoint_names().keys() == set()
    texts = {file: (project / file).read_text(encoding="utf-8") for file in set(ELSEWHERE.values())}
    assert {name: file for name, file in ELSEWHERE.items() if name.partition(".")[2] not in texts[file]} == {}
