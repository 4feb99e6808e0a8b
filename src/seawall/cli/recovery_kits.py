# SPDX-License-Identifier: Apache-2.0
"""``seawall recovery-kit``: the key that, with the bank, brings everything back."""

from __future__ import annotations

import typer

from seawall.cli.nouns import Where
from seawall.cli.output import say
from seawall.runtime.folder import default_data_dir


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="The key that, with the bank, brings everything back.", no_args_is_help=True)
    app.add_typer(noun, name="recovery-kit")

    @noun.command()
    def show(context: typer.Context) -> None:
        """Print the whole kit."""
        typer.echo(_offline(context).kit())

    @noun.command()
    def key(context: typer.Context) -> None:
        """Print the key alone: the password for `restic`."""
        typer.echo(_offline(context).key())

    @noun.command()
    def acknowledge(context: typer.Context) -> None:
        """Say that a copy lies elsewhere; `seawall doctor` stops asking."""
        _offline(context).acknowledge()
        say("noted: the recovery kit is kept elsewhere")


def _offline(context: typer.Context):  # type: ignore[no-untyped-def]  # its class is imported here alone
    from seawall.runtime.clock import SystemClock
    from seawall.runtime.config import load_settings
    from seawall.wiring.offline import RecoveryKit

    where: Where = context.find_root().obj
    settings = load_settings(options={"data_dir": where.data_dir or default_data_dir()})
    return RecoveryKit(settings, SystemClock())
