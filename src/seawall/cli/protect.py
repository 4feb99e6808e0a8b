# SPDX-License-Identifier: Apache-2.0
"""``seawall protect``: plan, trigger and operation in one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated

import typer

from seawall.cli.nouns import connection, only_provider
from seawall.cli.output import Form, FormOption, Json, instant, say, show_item
from seawall.cli.plans import resource_of
from seawall.client import Connection
from seawall.core.duration import every_at
from seawall.core.errors import SeawallError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def protect(
        context: typer.Context,
        paths: Annotated[list[Path], typer.Argument(help="Directories and SQLite databases.")],
        every: Annotated[str, typer.Option(help="hour, day, week, month, or e.g. 15m, 6h.")] = "day",
        at: Annotated[str | None, typer.Option(help="The time of the day, e.g. 02:00.")] = None,
        keep: Annotated[int | None, typer.Option(min=1, help="How many to keep; all by default.")] = None,
        keep_days: Annotated[int | None, typer.Option(min=1, help="How long to keep them.")] = None,
        zone: Annotated[str | None, typer.Option(help="IANA time zone; yours by default.")] = None,
        name: Annotated[str | None, typer.Option(help="By default that of the first path.")] = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Protect paths from now on: plan, schedule and retention in one."""
        properties = every_at(every, at=at, zone=zone or own_zone())
        resources = [resource_of(path) for path in paths]
        wanted = name or str(resources[0]["name"])
        rules = {"max_backups": keep, "retention_duration": keep_days}
        with connection(context) as api:
            made = _make(
                api, wanted, resources, properties, {k: v for k, v in rules.items() if v is not None}
            )
            if output is not Form.TABLE:
                show_item(made, output)
                return
            trigger = made["trigger"]
            say(f"{wanted}: {_words(api, properties)}; {_kept(keep, keep_days)}")
            say(f"next: {instant(trigger['next_run_at'])} UTC")
            say(f"now:  seawall checkpoint create --plan {made['plan']['id']} --wait")


def _make(api: Connection, name: str, resources: list[Json], properties: Json, rules: Json) -> Json:
    """All three, or none: what was made is deleted again when a later one is refused."""
    provider_id = only_provider(api)
    undo: list[str] = []
    # A repeated request (a lost answer) must not make a second one.
    key = uuid.uuid4().hex
    try:
        body: Json = {"name": name, "provider_id": provider_id, "resources": resources, "parameters": {}}
        plan = api.call("POST", "/plans", {"plan": body}, headers={"Idempotency-Key": f"{key}-plan"})["plan"]
        undo.append(f"/plans/{plan['id']}")
        body = {"trigger_info": {"name": name, "type": "time", "properties": properties}}
        trigger = api.call("POST", "/triggers", body, headers={"Idempotency-Key": f"{key}-trigger"})
        undo.append(f"/triggers/{trigger['trigger_info']['id']}")
        definition = {"plan_id": plan["id"], "provider_id": provider_id, **rules}
        body = {
            "name": name,
            "operation_type": "retention_protect",
            "trigger_id": trigger["trigger_info"]["id"],
            "operation_definition": definition,
        }
        operation = api.call(
            "POST",
            "/scheduled_operations",
            {"scheduled_operation": body},
            headers={"Idempotency-Key": f"{key}-operation"},
        )
    except SeawallError:
        for path in reversed(undo):
            api.call("DELETE", path)
        raise
    return {
        "plan": plan,
        "trigger": trigger["trigger_info"],
        "scheduled_operation": operation["scheduled_operation"],
    }


def _words(api: Connection, properties: Json) -> str:
    answer = api.call("POST", "/triggers/preview", {"properties": properties, "count": 1})
    return str(answer.get("description") or properties["pattern"])


def _kept(count: int | None, days: int | None) -> str:
    rules = [f"the newest {count}"] if count else []
    rules += [f"those of the last {days} days"] if days else []
    return f"kept are {' and '.join(rules)}" if rules else "all are kept"


def own_zone() -> str:
    """The user's time zone: ``TZ``, else what /etc/localtime points to, else UTC."""
    if (named := os.environ.get("TZ", "").lstrip(":")) and not named.startswith("/"):
        return named
    target = str(Path("/etc/localtime").resolve())
    _, found, zone = target.partition("/zoneinfo/")
    return zone.removeprefix("posix/") if found else "UTC"
