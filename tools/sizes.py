# SPDX-License-Identifier: Apache-2.0
"""The size limits of CODING.md: files of at most 600 lines, functions of at most 70.

    python tools/sizes.py src

Prints what is over a limit and ends with 1. A function may say ``# long: reason`` on its first line.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 600
FUNCTION_LINES = 70


def too_long(path: Path) -> Iterator[str]:
    """What of this file is over a limit."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if len(lines) > FILE_LINES:
        yield f"{path}: {len(lines)} lines, the limit is {FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES and "# long: " not in lines[node.lineno - 1]:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, the limit is {FUNCTION_LINES}"


def main(folders: list[str]) -> int:
    """0 when nothing is over a limit."""
    found = [
        fault for folder in folders for path in sorted(Path(folder).rglob("*.py")) for fault in too_long(path)
    ]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
