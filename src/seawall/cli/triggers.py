# SPDX-License-Identifier: Apache-2.0
"""``seawall trigger``: when things are due."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from seawall.cli.nouns import Noun, add_delete, add_list, add_show, connection, find
from seawall.cli.output import Form, FormOption, Json, instant, note, say, show_item, show_list
from seawall.core.errors import InvalidInputError

TRIGGERS = Noun(
    "trigger",
    "/triggers",
    "triggers",
    "trigger_info",
    (
        ("id", "id"),
        ("name", "name"),
        ("when", lambda one: _when(one["properties"])),
        ("next (UTC)", lambda one: instant(one["next_run_at"])),
        ("remark", lambda one: one["quarantine_reason"] or ("paused" if one["paused_at"] else "")),
    ),
)

# Their own commands import this module.
_OPERATIONS = Noun("operation", "/scheduled_operations", "operations", "scheduled_operation", ())

Property = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        "-p",
        help="name=value, e.g. timezone=Europe/Paris; exclusions as JSON; may be repeated.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="When things are due.", no_args_is_help=True)
    app.add_typer(noun, name="trigger")
    add_list(noun, TRIGGERS)
    add_show(noun, TRIGGERS)
    add_delete(noun, TRIGGERS)
    for command in (create, update, pause, resume, preview, rotate_secret):
        noun.command()(command)


def create(
    context: typer.Context,
    name: str,
    form: Annotated[str | None, typer.Option("--format", help="crontab, calendar or interval.")] = None,
    pattern: Annotated[str | None, typer.Option(help="e.g. '0 2 * * *', 'RRULE:FREQ=DAILY' or 3600.")] = None,
    webhook: Annotated[bool, typer.Option("--webhook", help="Fired by signed requests.")] = False,
    amqp: Annotated[
        str | None, typer.Option("--amqp", help="Fired by messages: a routing key, e.g. 'host.*.new.#'.")
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", help="With --amqp: path=value in the event's data; may be repeated."),
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", help="Fired when this operation has ended: its id or name.")
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option("--state", help="With --after: success (default), failed ...; may be repeated."),
    ] = None,
    properties: Property = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Make a trigger: by time (--format, --pattern), --webhook, --amqp or --after."""
    given = {"--format": form, "--webhook": webhook or None, "--amqp": amqp, "--after": after}
    chosen = [option for option, value in given.items() if value is not None]
    if len(chosen) != 1:
        rule = "give exactly one of --format (with --pattern), --webhook, --amqp and --after"
        raise InvalidInputError.of("trigger", " ".join(chosen) or None, rule)
    wanted = _properties(properties)
    with connection(context) as api:
        if webhook:
            wanted["source"] = "webhook"
        elif amqp is not None:
            wanted |= {"source": "amqp", "routing_key": amqp, "filter": _conditions(conditions)}
        elif after is not None:
            wanted |= {"source": "operation", "operation_id": find(_OPERATIONS, api, after)}
            wanted |= {"states": states} if states else {}
        else:
            wanted |= {"format": form, "pattern": pattern}
        kind = "event" if form is None else "time"
        body = {"trigger_info": {"name": name, "type": kind, "properties": wanted}}
        _show_secret(api.call("POST", "/triggers", body)["trigger_info"], output)


def rotate_secret(context: typer.Context, which: str, output: FormOption = Form.TABLE) -> None:
    """Give a webhook trigger a new secret; the former one is refused at once."""
    with connection(context) as api:
        found = find(TRIGGERS, api, which)
        _show_secret(api.call("POST", f"/triggers/{found}/rotate_secret")["trigger_info"], output)


def _show_secret(trigger: Json, output: Form) -> None:
    show_item(trigger, output)
    if "secret" in trigger:
        note("the secret is shown this once; keep it where the sender finds it")


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
            merged = {**known, **_properties(properties)}
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
    body = {"properties": {"format": form, "pattern": pattern, **_properties(properties)}, "count": count}
    with connection(context) as api:
        answer = api.call("POST", "/triggers/preview", body)
    if output is Form.TABLE and answer.get("description"):
        say(str(answer["description"]))
    columns = (("at (UTC)", lambda one: instant(one["at"])), ("local", "local"), ("note", "note"))
    show_list(answer["times"], columns, output)


def _when(properties: Json) -> str:
    """The properties of a trigger in a few words."""
    match properties.get("source"):
        case None:
            return f"{properties.get('format')} {properties.get('pattern')}"
        case "amqp":
            return f"amqp {properties.get('routing_key')}"
        case "operation":
            return f"after {properties.get('operation_id')}: {', '.join(properties.get('states', ()))}"
        case source:
            return str(source)


def _conditions(given: list[str] | None) -> Json:
    """What a value looks like decides: 3, true and null are JSON, anything else is text."""
    found: Json = {}
    for path, text in _pairs(given, "--filter").items():
        try:
            found[path] = json.loads(text)
        except ValueError:
            found[path] = text
    return found


def _properties(given: list[str] | None) -> Json:
    """All are text, but for the list of exclusions."""
    found: Json = dict(_pairs(given))
    if text := found.get("exclusions"):
        try:
            found["exclusions"] = json.loads(text)
        except ValueError as error:
            raise InvalidInputError.of("--property", text, f"must be JSON: {error}") from error
    return found


def _pairs(given: list[str] | None, option: str = "--property") -> dict[str, str]:
    found = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InvalidInputError.of(option, one, "must be name=value")
        found[name] = value
    return found
