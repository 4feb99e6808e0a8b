# SPDX-License-Identifier: Apache-2.0
"""``seawall operation``: what runs when a trigger fires."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from seawall.cli.nouns import Noun, add_delete, add_list, add_show, connection, find
from seawall.cli.output import Form, FormOption, Json, instant, say, show_item, show_list
from seawall.cli.triggers import TRIGGERS
from seawall.core.errors import InvalidInputError

OPERATIONS = Noun(
    "operation",
    "/scheduled_operations",
    "operations",
    "scheduled_operation",
    (
        ("id", "id"),
        ("name", "name"),
        ("type", "operation_type"),
        ("enabled", "enabled"),
        ("trigger", "trigger_id"),
    ),
)

Definition = Annotated[str, typer.Option(help="JSON, e.g. '{\"plan_id\": ...}'.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="What runs when a trigger fires.", no_args_is_help=True)
    app.add_typer(noun, name="operation")
    add_list(noun, OPERATIONS)
    add_show(noun, OPERATIONS)
    add_delete(noun, OPERATIONS)

    @noun.command()
    def types(context: typer.Context, output: FormOption = Form.TABLE) -> None:
        """List the operation types that can be scheduled, plugins included."""
        with connection(context) as api:
            found = api.call("GET", "/operation_types")["operation_types"]
        columns = (
            ("type", "operation_type"),
            ("fields", lambda one: ", ".join(one["definition_schema"].get("properties", {}))),
            ("source", "source"),
        )
        show_list(found, columns, output)

    @noun.command()
    def create(
        context: typer.Context,
        name: str,
        kind: Annotated[str, typer.Option("--type", help="See `seawall operation types`.")],
        trigger: Annotated[str, typer.Option(help="Its id, name, or `latest`.")],
        definition: Definition,
        overlap: Annotated[str, typer.Option(help="skip, queue_one, cancel_running or allow.")] = "skip",
        output: FormOption = Form.TABLE,
    ) -> None:
        """Run an operation whenever a trigger fires."""
        with connection(context) as api:
            body = {
                "name": name,
                "operation_type": kind,
                "trigger_id": find(TRIGGERS, api, trigger),
                "operation_definition": _definition(definition),
                "overlap": overlap,
            }
            made = api.call("POST", "/scheduled_operations", {"scheduled_operation": body})
            show_item(made["scheduled_operation"], output)

    @noun.command()
    def update(
        context: typer.Context,
        which: str,
        name: Annotated[str | None, typer.Option(help="A new name.")] = None,
        definition: Annotated[str | None, typer.Option(help="A new definition, whole, as JSON.")] = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Change an operation."""
        body: Json = {} if name is None else {"name": name}
        if definition is not None:
            body["operation_definition"] = _definition(definition)
        _change(context, which, body, output)

    add_asked(noun)

    @noun.command()
    def enable(context: typer.Context, which: str, output: FormOption = Form.TABLE) -> None:
        """Let it run at its due times, from now on."""
        _change(context, which, {"enabled": True}, output)

    @noun.command()
    def disable(context: typer.Context, which: str, output: FormOption = Form.TABLE) -> None:
        """Take it out at once; running work ends."""
        _change(context, which, {"enabled": False}, output)


def add_asked(noun: typer.Typer) -> None:
    """Add what runs it beside its schedule."""

    @noun.command("run-now")
    def run_now(context: typer.Context, which: str, output: FormOption = Form.TABLE) -> None:
        """Run it once, now; follow it with `seawall run show`."""
        with connection(context) as api:
            path = f"/scheduled_operations/{find(OPERATIONS, api, which)}/run"
            show_item(api.call("POST", path)["run"], output)

    @noun.command()
    def backfill(
        context: typer.Context,
        which: str,
        start: Annotated[str, typer.Option(help="From when on, e.g. 2030-01-01T00:00:00Z.")],
        end: Annotated[str, typer.Option(help="Until when, inclusive.")],
        is_dry: Annotated[bool, typer.Option("--dry-run", help="Only list the due times.")] = False,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Make up for the due times of a past range, one after the other."""
        with connection(context) as api:
            path = f"/scheduled_operations/{find(OPERATIONS, api, which)}/backfill"
            made = api.call("POST", path, {"start": start, "end": end, "dry_run": is_dry})["backfill"]
        if output is not Form.TABLE:
            show_item(made, output)
            return
        listed = [{"due": one, "note": ""} for one in made["times"]]
        listed += [{"due": one["at"], "note": one["reason"]} for one in made["excluded"]]
        listed.sort(key=_due)
        show_list(listed, (("due (UTC)", _due), ("note", "note")), output)
        words = f"{len(made['times'])} due times" + (
            ", nothing was made" if is_dry else " will be made up for"
        )
        say(words + (f"; {len(made['excluded'])} are excluded" if made["excluded"] else ""))


def _due(one: Json) -> str:
    return instant(one["due"])


def _change(context: typer.Context, which: str, body: Json, output: Form) -> None:
    with connection(context) as api:
        path = f"/scheduled_operations/{find(OPERATIONS, api, which)}"
        show_item(api.call("PUT", path, {"scheduled_operation": body})["scheduled_operation"], output)


def _definition(text: str) -> Json:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInputError.of("--definition", text, f"must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInputError.of("--definition", text, "must be a JSON object")
    return found
