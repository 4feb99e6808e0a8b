# SPDX-License-Identifier: Apache-2.0
"""``seawall plan``: what is protected together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seawall.cli.nouns import PROVIDERS, Noun, add_delete, add_list, add_show, connection, find, only_provider
from seawall.cli.output import Form, FormOption, Json, show_item

PLANS = Noun(
    "plan",
    "/plans",
    "plans",
    "plan",
    (
        ("id", "id"),
        ("name", "name"),
        ("status", "status"),
        ("resources", lambda plan: ", ".join(str(one["id"]) for one in plan["resources"])),
    ),
)

# What SQLite calls its files; anything else is named with --type.
_DATABASES = (".db", ".sqlite", ".sqlite3")


def resource_of(path: Path, kind: str | None = None) -> Json:
    """The resource that a path is: a directory, or by its suffix a SQLite database."""
    absolute = path.expanduser().absolute()
    found = kind or ("sqlite" if absolute.suffix in _DATABASES else "directory")
    return {"type": found, "id": str(absolute), "name": absolute.name or str(absolute)}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="What is protected together.", no_args_is_help=True)
    app.add_typer(noun, name="plan")
    add_list(noun, PLANS)
    add_show(noun, PLANS)
    add_delete(noun, PLANS)

    @noun.command()
    def create(
        context: typer.Context,
        name: str,
        paths: Annotated[list[Path], typer.Argument(help="Directories and SQLite databases.")],
        kind: Annotated[
            str | None, typer.Option("--type", help="The resource type of all paths; by default guessed.")
        ] = None,
        provider: Annotated[str | None, typer.Option(help="By default the only one.")] = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Make a plan of paths on the service's host."""
        with connection(context) as api:
            provider_id = find(PROVIDERS, api, provider) if provider else only_provider(api)
            resources = [resource_of(path, kind) for path in paths]
            body = {"name": name, "provider_id": provider_id, "resources": resources, "parameters": {}}
            show_item(api.call("POST", "/plans", {"plan": body})["plan"], output)

    @noun.command()
    def update(
        context: typer.Context,
        which: str,
        name: Annotated[str | None, typer.Option(help="A new name.")] = None,
        path: Annotated[list[Path] | None, typer.Option(help="All paths from now on.")] = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Change a plan's name or what it protects."""
        body: Json = {}
        if name is not None:
            body["name"] = name
        if path:
            body["resources"] = [resource_of(one) for one in path]
        with connection(context) as api:
            found = find(PLANS, api, which)
            show_item(api.call("PUT", f"/plans/{found}", {"plan": body})["plan"], output)
