# SPDX-License-Identifier: Apache-2.0
"""``seawall provider``: where checkpoints go."""

from __future__ import annotations

import typer

from seawall.cli.nouns import PROVIDERS, add_list, add_show


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="Where checkpoints go: files in providers.d.", no_args_is_help=True)
    app.add_typer(noun, name="provider")
    add_list(noun, PROVIDERS)
    add_show(noun, PROVIDERS)
