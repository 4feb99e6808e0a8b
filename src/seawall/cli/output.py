# SPDX-License-Identifier: Apache-2.0
"""What people and programs see: tables that fit the terminal, JSON, YAML, and errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seawall.core.errors import InvalidInputError, SeawallError

Json = dict[str, Any]
Cell = str | Callable[[Json], Any]
Columns = Sequence[tuple[str, Cell]]
"""(heading, key or function of the item)"""


# A table that has less room than this shows the ends of ids; every command takes those, too.
_WIDE = 120
_SHORT_ID = 8
_IDS = frozenset({"id", "checkpoint", "trigger", "run"})
_TEXTS = frozenset(
    {
        "name",
        "remark",
        "reason",
        "resources",
        "target",
        "finding",
        "hint",
        "what",
        "tags",
        "pattern",
        "fields",
        "source",
    }
)


class Form(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FormOption = Annotated[Form, typer.Option("-o", "--output", help="How to write the answer.")]


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False)


def show_list(items: Sequence[Json], columns: Columns, form: Form) -> None:
    """A list: a table of the columns, or everything."""
    if form is not Form.TABLE:
        _dump(list(items), form)
        return
    console = _console()
    is_narrow = console.width < _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, _ in columns:
        # Free text gives way to what cannot be read when it is cut: ids, instants, states, sizes.
        table.add_column(
            heading, no_wrap=heading not in _TEXTS, overflow="fold", min_width=min(len(heading), 12)
        )
    for item in items:
        cells = (_text(cell(item) if callable(cell) else item.get(cell)) for _, cell in columns)
        table.add_row(
            *(
                escape(cell[-_SHORT_ID:] if is_narrow and heading in _IDS else cell)
                for (heading, _), cell in zip(columns, cells, strict=True)
            )
        )
    console.print(table)


def show_item(item: Json, form: Form) -> None:
    """One thing, whole."""
    if form is not Form.TABLE:
        _dump(item, form)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in item.items():
        if value not in (None, "", [], {}):
            table.add_row(name, escape(_text(value)))
    _console().print(table)


def say(text: str) -> None:
    """A line for people, on stdout."""
    _console().print(escape(text), soft_wrap=True)


def note(text: str) -> None:
    """A line for people that is not the answer, on stderr."""
    _console(stderr=True).print(escape(text), soft_wrap=True)


def show_error(error: SeawallError) -> None:
    """Field, value, rule and what to do about it, on stderr."""
    console = _console(stderr=True)
    lines = [str(one) for one in error.fields] if isinstance(error, InvalidInputError) else [str(error)]
    for line in lines:
        console.print(f"[bold red]error:[/bold red] {escape(line)}", soft_wrap=True)
    if error.shown_hint:
        console.print(f"[bold]hint:[/bold] {escape(error.shown_hint)}", soft_wrap=True)


def size(count: int | None) -> str:
    """A size for a table."""
    if count is None:
        return ""
    left = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < 1024:
            return f"{left:.0f} {unit}" if unit == "B" else f"{left:.1f} {unit}"
        left /= 1024
    return f"{left:.1f} TiB"


def instant(text: str | None) -> str:
    """An API time to the second, in UTC."""
    if not text:
        return ""
    return text[:19].replace("T", " ")


def _dump(value: Any, form: Form) -> None:
    text = json.dumps(value, indent=2) if form is Form.JSON else yaml.safe_dump(value, sort_keys=False)
    typer.echo(text.rstrip("\n"))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
