# SPDX-License-Identifier: Apache-2.0
"""Every failpoint of the product, found in its source: names given to ``failpoint`` and names of writes."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "seawall"


@cache
def trees() -> tuple[tuple[Path, ast.Module], ...]:
    """The syntax tree of every file of the product, by its path below ``src/seawall``."""
    return tuple(
        (path.relative_to(SOURCE), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(SOURCE.rglob("*.py"))
    )


def called(node: ast.Call) -> str:
    """The last word of what is called: ``os.fsync(...)`` is ``fsync``."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def failpoint_names() -> dict[str, Path]:
    """Name -> the file that has it."""
    found: dict[str, Path] = {}
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = _text(node.args[0])
            if name is None:
                continue
            if called(node) == "failpoint":
                found[name] = path
            elif (called(node) in ("write", "submit") and len(node.args) == 2 and "." in name) or (
                called(node) == "exclusive" and "." in name
            ):
                found[f"{name}.before_commit"] = path
                found[f"{name}.after_commit"] = path
    return found
