# SPDX-License-Identifier: Apache-2.0
"""``seawall service``: what is up."""

from __future__ import annotations

from typing import Annotated

import typer

from seawall.cli.nouns import Noun, add_list, connection
from seawall.cli.output import Form, FormOption, instant, show_item

SERVICES = Noun(
    "service",
    "/services",
    "services",
    "service",
    (
        ("id", "id"),
        ("binary", "binary"),
        ("host", "host"),
        ("state", "state"),
        ("status", "status"),
        ("heartbeat (UTC)", lambda one: instant(one["updated_at"])),
        ("version", "version"),
        ("reason", "disabled_reason"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="What is up.", no_args_is_help=True)
    app.add_typer(noun, name="service")
    add_list(noun, SERVICES)

    @noun.command()
    def enable(context: typer.Context, service_id: int, output: FormOption = Form.TABLE) -> None:
        """Let a service take work again."""
        with connection(context) as api:
            answer = api.call("PUT", f"/services/{service_id}", {"status": "enabled"})
            show_item(answer["service"], output)

    @noun.command()
    def disable(
        context: typer.Context,
        service_id: int,
        reason: Annotated[str, typer.Option(help="Why; shown with the service.")],
        output: FormOption = Form.TABLE,
    ) -> None:
        """Let a service take no new work."""
        body = {"status": "disabled", "disabled_reason": reason}
        with connection(context) as api:
            show_item(api.call("PUT", f"/services/{service_id}", body)["service"], output)
