# SPDX-License-Identifier: Apache-2.0
"""``seawall repository``: look into the bank itself, without the service."""

from __future__ import annotations

from typing import Annotated

import typer

from seawall.cli.nouns import Where
from seawall.cli.output import Form, FormOption, note, say, show_list
from seawall.runtime.folder import default_data_dir

Name = Annotated[str | None, typer.Option("--repository", help="Its id; by default the only one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="Look into the bank itself, without the service.", no_args_is_help=True)
    app.add_typer(noun, name="repository")

    @noun.command()
    def snapshots(
        context: typer.Context,
        tag: Annotated[list[str] | None, typer.Option(help="Only with all of these tags.")] = None,
        repository: Name = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the snapshots on the bank."""
        with _open(context, repository) as opened:
            found = opened.snapshots(tag or ())
        columns = (("id", "id"), ("time", "time"), ("tags", lambda one: ", ".join(one["tags"])))
        show_list(found, columns, output)

    @noun.command()
    def check(
        context: typer.Context,
        read_data: Annotated[bool, typer.Option("--read-data", help="Read every byte.")] = False,
        repository: Name = None,
    ) -> None:
        """Check the structure; with --read-data every stored byte. Ends with 8 when something is damaged."""
        with _open(context, repository) as opened:
            faults = opened.check(read_data=read_data)
        for fault in faults:
            note(fault)
        if faults:
            raise typer.Exit(8)
        say("no errors were found")

    @noun.command()
    def locks(context: typer.Context, repository: Name = None, output: FormOption = Form.TABLE) -> None:
        """List the locks on the bank."""
        columns = (("id", "id"), ("time", "time"), ("host", "hostname"), ("exclusive", "exclusive"))
        with _open(context, repository) as opened:
            show_list(opened.locks(), columns, output)


def _open(context: typer.Context, repository: str | None):  # type: ignore[no-untyped-def]  # as above: lazy
    from seawall.runtime.clock import SystemClock
    from seawall.runtime.config import load_settings
    from seawall.wiring.offline import open_repository

    where: Where = context.find_root().obj
    settings = load_settings(options={"data_dir": where.data_dir or default_data_dir()})
    return open_repository(settings, SystemClock(), repository)
