# SPDX-License-Identifier: Apache-2.0
"""``seawall recover``: a bank and the recovery key become an installation again (I9)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from seawall.cli.nouns import Where
from seawall.cli.output import note, say
from seawall.core.errors import InvalidInputError
from seawall.runtime.folder import default_data_dir


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def recover(
        context: typer.Context,
        bank: Annotated[
            Path, typer.Option(help="The folder of the bank, or a provider's file that says where it is.")
        ],
        key: Annotated[
            Path | None,
            typer.Option(help="The recovery kit, or a file with the key; `-` reads it from standard input."),
        ] = None,
    ) -> None:
        """Rebuild checkpoints, plans and schedules from a bank and the recovery key.

        The data folder must be empty or new. Without --key the variable SEAWALL_RECOVERY_KEY is read; a key
        is never an argument, for other users can read those.
        """
        from seawall.runtime.clock import SystemClock
        from seawall.runtime.config import load_settings
        from seawall.wiring.offline import recover as rebuild

        where: Where = context.find_root().obj
        settings = load_settings(options={"data_dir": where.data_dir or default_data_dir()})
        found = rebuild(settings, SystemClock(), bank=bank.expanduser().absolute(), key_text=_key_text(key))
        say(
            f"recovered {found.checkpoints} checkpoints, {found.plans} plans, {found.operations} schedules "
            f"from {found.repositories} repositories into {settings.data_dir}"
        )
        for text in found.notes:
            note(text)
        for fault in found.faults:
            note(f"not recovered: {fault}")
        say("next: seawall serve")
        if found.faults:
            raise typer.Exit(8)


def _key_text(path: Path | None) -> str:
    if path is None:
        if text := os.environ.get("SEAWALL_RECOVERY_KEY"):
            return text
        raise InvalidInputError.of("--key", None, "is missing: name the recovery kit, or `-`")
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError.of("--key", str(path), f"cannot be read: {error}") from error
