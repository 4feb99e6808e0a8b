# SPDX-License-Identifier: Apache-2.0
"""``seawall trigger``: when things are due."""

from __future__ import annotations

from typing import Annotated

import typer

from seawall.cli.nouns import Noun, add_delete, add_list, add_show, connection, find
from seawall.cli.output import Form, FormOption, Json, instant, say, show_item, show_list
from seawall.core.errors import InvalidInputError

TRIGGERS = Noun(
    "trigger",
    "/triggers",
    "triggers",
    "trigger_info",
    (
        ("id", "id"),
        ("name", "name"),
        ("pattern", lambda one: f"{one['properties'].get('format')} {one['properties'].get('pattern')}"),
        ("next (UTC)", lambda one: instant(one["next_run_at"])),
        ("remark", lambda one: one["quarantine_reason"] or ("paused" if one["paused_at"] else "")),
    ),
)

Property = Annotated[
    list[str] | None,
    typer.Option("--property", "-p", help="name=value, e.g. timezone=Europe/Paris; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="When things are due.", no_args_is_help=True)
    app.add_typer(noun, name="trigger")
    add_list(noun, TRIGGERS)
    add_show(noun, TRIGGERS)
    add_delete(noun, TRIGGERS)
    for command in (create, update, pause, resume, preview):
        noun.command()(command)


def create(
    context: typer.Context,
    name: str,
    form: Annotated[str, typer.Option("--format", help="crontab, calendar or interval.")],
    pattern: Annotated[str, typer.Option(help="e.g. '0 2 * * *', 'RRULE:FREQ=DAILY' or 3600.")],
    properties: Property = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Make a time trigger."""
    wanted = {"format": form, "pattern": pattern, **_pairs(properties)}
    body = {"trigger_info": {"name": name, "type": "time", "properties": wanted}}
    with connection(context) as api:
        show_item(api.call("POST", "/triggers", body)["trigger_info"], output)


def update(
    context: typer.Context,
    which: str,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    properties: Property = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Change single properties of a trigger; an empty value takes one away."""
    with connection(context) as api:
        found = find(TRIGGERS, api, which)
        body: Json = {} if name is None else {"name": name}
        if properties:
            known = api.call("GET", f"/triggers/{found}")["trigger_info"]["properties"]
            merged = {**known, **_pairs(properties)}
            body["properties"] = {key: value for key, value in merged.items() if value != ""}
        changed = api.call("PUT", f"/triggers/{found}", {"trigger_info": body})
        show_item(changed["trigger_info"], output)


def pause(
    context: typer.Context,
    which: str,
    reason: Annotated[str, typer.Option(help="Why; shown wherever the trigger is.")],
    until: Annotated[str | None, typer.Option(help="An instant, e.g. 2030-01-01T00:00:00Z.")] = None,
) -> None:
    """Let a trigger not fire for now; what it misses is accounted for."""
    with connection(context) as api:
        found = find(TRIGGERS, api, which)
        api.call("POST", f"/triggers/{found}/pause", {"reason": reason, "until": until})
        say(f"trigger {found} is paused")


def resume(context: typer.Context, which: str) -> None:
    """Let a paused trigger fire again."""
    with connection(context) as api:
        found = find(TRIGGERS, api, which)
        api.call("POST", f"/triggers/{found}/resume")
        say(f"trigger {found} fires again")


def preview(
    context: typer.Context,
    form: Annotated[str, typer.Option("--format", help="crontab, calendar or interval.")],
    pattern: str,
    properties: Property = None,
    count: Annotated[int, typer.Option(min=1, max=100)] = 5,
    output: FormOption = Form.TABLE,
) -> None:
    """Say when a pattern would fire, without making anything."""
    body = {"properties": {"format": form, "pattern": pattern, **_pairs(properties)}, "count": count}
    with connection(context) as api:
        answer = api.call("POST", "/triggers/preview", body)
    if output is Form.TABLE and answer.get("description"):
        say(str(answer["description"]))
    columns = (("at (UTC)", lambda one: instant(one["at"])), ("local", "local"), ("note", "note"))
    show_list(answer["times"], columns, output)


def _pairs(given: list[str] | None) -> dict[str, str]:
    found = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InvalidInputError.of("--property", one, "must be name=value")
        found[name] = value
    return found
