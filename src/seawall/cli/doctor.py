# SPDX-License-Identifier: Apache-2.0
"""``seawall doctor``: what is wrong, or will be, with this installation."""

from __future__ import annotations

import typer

from seawall.cli.nouns import Where
from seawall.cli.output import Form, FormOption, show_list
from seawall.runtime.folder import default_data_dir


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(context: typer.Context, output: FormOption = Form.TABLE) -> None:
        """Look at folders, keys, plugins, services and schedules; ends with 1 when something needs you."""
        from seawall.runtime.clock import SystemClock
        from seawall.runtime.config import load_settings
        from seawall.wiring.doctor import examine

        where: Where = context.find_root().obj
        settings = load_settings(options={"data_dir": where.data_dir or default_data_dir()})
        findings = examine(settings, SystemClock())
        columns = (("state", "state"), ("what", "what"), ("finding", "finding"), ("hint", "hint"))
        show_list([one.as_json() for one in findings], columns, output)
        if any(one.state != "ok" for one in findings):
            raise typer.Exit(1)
