# SPDX-License-Identifier: Apache-2.0
"""``seawall run``: what was done, what was not, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from seawall.cli.nouns import Limit, Noun, add_show, all_of, connection, find
from seawall.cli.operations import OPERATIONS
from seawall.cli.output import Form, FormOption, Json, instant, say, show_item, show_list
from seawall.cli.plans import PLANS
from seawall.cli.progress import follow


def _remark(run: Json) -> str:
    if run["gap_count"]:
        return f"{run['gap_count']} times until {instant(run['gap_last_at'])}: {run['reason']}"
    return str((run["error"] or {}).get("message") or run["reason"] or "")


RUNS = Noun(
    "run",
    "/runs",
    "runs",
    "run",
    (
        ("id", "id"),
        ("type", "operation_type"),
        ("kind", "kind"),
        ("due (UTC)", lambda run: instant(run["expected_at"])),
        ("state", "state"),
        ("ended (UTC)", lambda run: instant(run["ended_at"])),
        ("remark", _remark),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="What was done, what was not, and why.", no_args_is_help=True)
    app.add_typer(noun, name="run")
    add_show(noun, RUNS)

    @noun.command("list")
    def list_runs(
        context: typer.Context,
        operation: Annotated[str | None, typer.Option(help="Only those of this operation.")] = None,
        plan: Annotated[str | None, typer.Option(help="Only those of this plan.")] = None,
        state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
        limit: Limit = 50,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the runs, the newest first."""
        with connection(context) as api:
            query = {
                "scheduled_operation_id": find(OPERATIONS, api, operation) if operation else None,
                "plan_id": find(PLANS, api, plan) if plan else None,
                "state": state,
            }
            show_list(all_of(RUNS, api, limit=limit, **query), RUNS.columns, output)

    @noun.command()
    def log(context: typer.Context, which: str) -> None:
        """Show what a run has said."""
        with connection(context) as api:
            for line in api.call("GET", f"/runs/{find(RUNS, api, which)}/log")["log"]:
                say(f"{instant(line['at'])} {line['level']:7} {line['text']}")

    @noun.command()
    def wait(context: typer.Context, which: str, output: FormOption = Form.TABLE) -> None:
        """Stay until a run has ended."""
        with connection(context) as api:
            show_item(follow(api, find(RUNS, api, which)), output)

    @noun.command()
    def cancel(context: typer.Context, which: str) -> None:
        """Stop a run soon."""
        with connection(context) as api:
            found = find(RUNS, api, which)
            run = api.call("POST", f"/runs/{found}/cancel")["run"]
            say(f"run {found} is {run['state']}")
