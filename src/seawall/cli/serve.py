# SPDX-License-Identifier: Apache-2.0
"""``seawall serve``, ``api``, ``operationengine``, ``protection``: start services on a data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where everything of this installation lies.")
]
Config = Annotated[Path | None, typer.Option("--config", help="The YAML file with the settings.")]
Listen = Annotated[
    str | None, typer.Option("--listen", help="The address to listen on; 127.0.0.1 by default.")
]
Port = Annotated[int | None, typer.Option("--port", help="The port; 8799 by default, 0 takes any free one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def serve(
        data_dir: DataDir = None, config: Config = None, listen: Listen = None, port: Port = None
    ) -> None:
        """Run all of Seawall in this process: API, operation engine and protection."""
        _run(("api", "operationengine", "protection"), data_dir, config, listen=listen, port=port)

    @app.command()
    def api(
        data_dir: DataDir = None, config: Config = None, listen: Listen = None, port: Port = None
    ) -> None:
        """Run the API alone."""
        _run(("api",), data_dir, config, listen=listen, port=port)

    @app.command()
    def operationengine(data_dir: DataDir = None, config: Config = None) -> None:
        """Run the operation engine alone: schedules and the automatic clean-up."""
        _run(("operationengine",), data_dir, config)

    @app.command()
    def protection(data_dir: DataDir = None, config: Config = None) -> None:
        """Run protection alone: what carries out the runs of this host."""
        _run(("protection",), data_dir, config)


def _run(kinds: tuple[str, ...], data_dir: Path | None, config: Path | None, **options: object) -> None:
    from seawall.runtime.clock import SystemClock
    from seawall.runtime.config import load_settings
    from seawall.runtime.logging import set_up_logging
    from seawall.wiring.processes import serve

    settings = load_settings(config=config, options={"data_dir": data_dir, **options})
    set_up_logging(level=settings.log_level, form=settings.log_format)
    code = serve(settings, SystemClock(), kinds, say=typer.echo)
    if code:
        raise typer.Exit(code)
