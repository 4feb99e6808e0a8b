# SPDX-License-Identifier: Apache-2.0
"""``seawall``: all commands, and the one place where errors become words and exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import click
import typer

from seawall import __version__
from seawall.cli import (
    checkpoints,
    doctor,
    operations,
    plans,
    protect,
    protectables,
    providers,
    recover,
    recovery_kits,
    repository,
    restores,
    runs,
    serve,
    services,
    triggers,
)
from seawall.cli.nouns import Where
from seawall.cli.output import show_error
from seawall.core.errors import SeawallError

EPILOG = (
    "Exit codes: 0 done, 1 unexpected, 2 bad input, 3 not found, 4 not allowed, 5 conflict, "
    "6 already running or port taken, 7 not available now, 8 damaged data, 9 wrong key, 10 run failed, "
    "11 run cancelled."
)

app = typer.Typer(
    help="Seawall protects data by itself: say once what, where, when and how long.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def everywhere(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The data folder; also SEAWALL_DATA_DIR.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="The API's address; also SEAWALL_URL.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Options of all commands; they stand before the command."""
    context.obj = Where(data_dir, url)


for part in (
    serve,
    protect,
    plans,
    triggers,
    operations,
    runs,
    checkpoints,
    restores,
    providers,
    protectables,
    services,
    repository,
    recover,
    recovery_kits,
    doctor,
):
    part.register(app)


def main() -> None:
    """The console script."""
    try:
        code = app(standalone_mode=False)
    except SeawallError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
