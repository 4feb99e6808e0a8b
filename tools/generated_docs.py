# SPDX-License-Identifier: Apache-2.0
"""Write the pages that come from the code: docs/states.md, docs/errors.md. ``make docs`` calls it."""

from __future__ import annotations

import inspect
from pathlib import Path

from seawall.core import errors, states

DOCS = Path(__file__).parents[1] / "docs"


def errors_as_markdown() -> str:
    """A row for every error class."""
    lines = [
        "# Errors",
        "",
        "Written by `make docs` from `src/seawall/core/errors.py`. API, command line and log say the same.",
        "",
        "| code | class | HTTP | exit | try again | meaning | hint |",
        "|---|---|---|---|---|---|---|",
    ]
    classes = [errors.SeawallError]
    for one in classes:
        # Those of this page alone: a private error of another module is none that a user meets by its code.
        classes += [found for found in one.__subclasses__() if found.__module__ == errors.__name__]
    for one in classes:
        meaning = (inspect.getdoc(one) or "").split("\n\n")[0].replace("\n", " ")
        retry = "yes" if one.retryable else "no"
        cells = (one.code, one.__name__, one.status, one.exit_code, retry, meaning, one.hint)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """Page -> what it must hold."""
    return {DOCS / "states.md": states.as_markdown(), DOCS / "errors.md": errors_as_markdown()}


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
