# SPDX-License-Identifier: Apache-2.0
"""``seawall restore``: bringing things back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seawall.cli.checkpoints import CHECKPOINTS, Wait
from seawall.cli.nouns import Noun, add_list, add_show, all_of, connection, get
from seawall.cli.output import Form, FormOption, Json, instant, show_item
from seawall.cli.progress import follow
from seawall.client import Connection
from seawall.core.errors import NotFoundError

RESTORES = Noun(
    "restore",
    "/restores",
    "restores",
    "restore",
    (
        ("id", "id"),
        ("checkpoint", "checkpoint_id"),
        ("status", "status"),
        ("target", lambda one: one["restore_target"] or "in place"),
        ("created (UTC)", lambda one: instant(one["created_at"])),
        ("reason", "reason"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="Bringing things back.", no_args_is_help=True)
    app.add_typer(noun, name="restore")
    add_list(noun, RESTORES)
    add_show(noun, RESTORES)

    @noun.command()
    def create(
        context: typer.Context,
        checkpoint: Annotated[str, typer.Argument(help="Its id, or `latest` for the newest good one.")],
        target: Annotated[
            Path | None, typer.Option(help="A folder to restore into; by default where it came from.")
        ] = None,
        wait: Wait = False,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Restore a checkpoint."""
        with connection(context) as api:
            chosen = _newest_good(api) if checkpoint == "latest" else get(CHECKPOINTS, api, checkpoint)
            body = {
                "provider_id": chosen["provider_id"],
                "checkpoint_id": chosen["id"],
                "restore_target": None if target is None else str(target.expanduser().absolute()),
                "parameters": {},
            }
            made = api.call("POST", "/restores", {"restore": body})["restore"]
            if wait:
                follow(api, made["run_id"])
                made = api.call("GET", f"/restores/{made['id']}")["restore"]
            show_item(made, output)


def _newest_good(api: Connection) -> Json:
    for one in all_of(CHECKPOINTS, api):
        if one["status"] in ("available", "available_with_warnings"):
            return one
    raise NotFoundError("there is no checkpoint that could be restored")
