# SPDX-License-Identifier: Apache-2.0
"""``seawall protectable``: what could be protected."""

from __future__ import annotations

import typer

from seawall.cli.nouns import connection
from seawall.cli.output import Form, FormOption, show_item, show_list


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="What could be protected.", no_args_is_help=True)
    app.add_typer(noun, name="protectable")

    @noun.command("list")
    def list_types(context: typer.Context, output: FormOption = Form.TABLE) -> None:
        """List the resource types."""
        with connection(context) as api:
            types = api.call("GET", "/protectables")["protectable_type"]
        show_list([{"type": one} for one in types], (("type", "type"),), output)

    @noun.command()
    def show(context: typer.Context, resource_type: str, output: FormOption = Form.TABLE) -> None:
        """Show one resource type."""
        with connection(context) as api:
            show_item(api.call("GET", f"/protectables/{resource_type}")["protectable_type"], output)

    @noun.command()
    def instances(context: typer.Context, resource_type: str, output: FormOption = Form.TABLE) -> None:
        """List the resources of a type on the service's host."""
        columns = (("id", "id"), ("name", "name"), ("type", "type"))
        with connection(context) as api:
            answer = api.call("GET", f"/protectables/{resource_type}/instances")
        show_list(answer["instances"], columns, output)
