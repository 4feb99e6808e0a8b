# SPDX-License-Identifier: Apache-2.0
"""``seawall repository``: look into the bank itself and keep it in order, without the service.

The verbs are restic's. Without ``--at`` they work on a repository of this installation, whose password is
known; with ``--at`` on any repository in a folder, whose password comes from a file, from standard input or
from SEAWALL_REPOSITORY_PASSWORD, never from an argument: other users can read those.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from seawall.cli.nouns import Where
from seawall.cli.output import Form, FormOption, Json, instant, note, say, show_item, show_list, size
from seawall.core.errors import InvalidInputError
from seawall.runtime.folder import default_data_dir

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from seawall.runtime.config import Settings
    from seawall.wiring.offline import RepositoryPlace
    from seawall.wiring.opened_repository import OpenedRepository

_DAMAGED = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VARIABLE = "SEAWALL_REPOSITORY_PASSWORD"

Name = Annotated[str | None, typer.Option("--repository", help="Its id; by default the only one.")]
At = Annotated[Path | None, typer.Option("--at", help="The folder of a repository, of restic too.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(help=f"With --at: a file with the password; `-` is standard input. Else {_VARIABLE}."),
]
ReadData = Annotated[bool, typer.Option("--read-data", help="Read every byte.")]
Which = Annotated[str, typer.Argument(help="The beginning of its id, or `latest`.")]


class Overwriting(StrEnum):
    """What a restore does with a file that is there."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    NEVER = "never"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="Look into the bank itself, without the service.", no_args_is_help=True)
    app.add_typer(noun, name="repository")
    _add_looking(noun)
    _add_keeping(noun)
    _add_repair(noun)
    _add_adopt(noun)
    _add_locks(noun)
    _add_keys(noun)
    _add_restore(noun)


def _add_looking(noun: typer.Typer) -> None:
    @noun.command()
    def snapshots(
        context: typer.Context,
        tag: Annotated[list[str] | None, typer.Option(help="Only with all of these tags.")] = None,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the snapshots on the bank."""
        with _open(context, repository, at, password_file) as opened:
            show_list(opened.snapshots(tag or ()), _SNAPSHOT_COLUMNS, output)

    @noun.command()
    def ls(
        context: typer.Context,
        snapshot: Which,
        path: Annotated[str, typer.Argument(help="A folder or file of it.")] = "/",
        recursive: Annotated[bool, typer.Option("--recursive", help="All below, too.")] = False,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the files of a snapshot."""
        with _open(context, repository, at, password_file) as opened:
            show_list(list(opened.ls(snapshot, path, is_recursive=recursive)), _NODE_COLUMNS, output)

    @noun.command()
    def find(
        context: typer.Context,
        pattern: Annotated[str, typer.Argument(help="A name with * and ?; with a / a whole path.")],
        snapshot: Annotated[str | None, typer.Option(help="Only in this one.")] = None,
        limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 1000,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Find files in all snapshots."""
        with _open(context, repository, at, password_file) as opened:
            found = list(islice(opened.find(pattern, snapshot), limit))
        columns = (("snapshot", lambda one: one["snapshot"][:8]), *_NODE_COLUMNS[2:])
        show_list(found, columns, output)

    @noun.command()
    def stats(
        context: typer.Context,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Say how much the snapshots hold, and how much of the bank that takes."""
        with _open(context, repository, at, password_file) as opened:
            found = opened.stats()
        if output is Form.TABLE:
            found = {name: size(value) if name.endswith("_bytes") else value for name, value in found.items()}
        show_item(found, output)


def _add_keeping(noun: typer.Typer) -> None:
    @noun.command()
    def init(
        context: typer.Context,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
    ) -> None:
        """Make a repository: in a folder, or the installation's own before its first backup."""
        from seawall.runtime.clock import SystemClock
        from seawall.wiring.offline import init_repository

        made = init_repository(_settings(context), SystemClock(), _place(repository, at, password_file))
        say(f"repository {made} is made")

    @noun.command()
    def check(
        context: typer.Context,
        read_data: ReadData = False,
        sample: Annotated[
            str | None, typer.Option(help="Read a part: 3/28 is the third of twenty-eight.")
        ] = None,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
    ) -> None:
        """Check the structure; with --read-data every stored byte. Ends with 8 when something is damaged."""
        part = _sample(sample)
        with _open(context, repository, at, password_file) as opened:
            faults = opened.check(read_data=read_data, sample=part)
        _end_with(faults)
        say("no errors were found")

    @noun.command()
    def prune(
        context: typer.Context,
        max_unused: Annotated[
            float, typer.Option(min=0, max=100, help="Per cent of what is in use that may stay unused.")
        ] = 5.0,
        exclusive: Annotated[
            bool, typer.Option("--exclusive", help="Delete at once; nothing else may work on it.")
        ] = False,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Give back what no snapshot needs: what goes waits a day, so that backups may run meanwhile."""
        with _open(context, repository, at, password_file) as opened:
            show_item(opened.prune(max_unused=max_unused / 100, is_exclusive=exclusive), output)


def _add_repair(noun: typer.Typer) -> None:
    @noun.command()
    def repair(
        context: typer.Context,
        read_data: ReadData = False,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Make the index anew from what is on the bank. Ends with 8 when something stays lost."""
        with _open(context, repository, at, password_file, read_index=False) as opened:
            result, faults = opened.repair(read_data=read_data)
        show_item(result, output)
        _end_with(faults)


def _add_adopt(noun: typer.Typer) -> None:
    @noun.command()
    def adopt(
        context: typer.Context,
        name: Annotated[str, typer.Argument(help="What its provider is to be called.")],
        at: At = None,
        bank_file: Annotated[
            Path | None,
            typer.Option(help="Instead of --at: a YAML file with `type: s3` and its other options."),
        ] = None,
        password_file: PasswordFile = None,
    ) -> None:
        """Take over a repository that restic made; restic goes on working on it.

        Its password is asked for once: Seawall adds keys of its own, and a provider that is this repository.
        """
        from seawall.runtime.clock import SystemClock
        from seawall.wiring.offline import adopt_repository

        if not _NAME.fullmatch(name):
            raise InvalidInputError.of("name", name, "must be a word of letters, digits, - and _")
        kind, options = _bank_options(at, bank_file)
        found = adopt_repository(
            _settings(context),
            SystemClock(),
            name=name,
            bank=kind,
            options=options,
            password=_password(password_file),
        )
        say(f"repository {found.repository_id} with {found.snapshots} snapshots is the provider {name}")
        say(f"next: seawall repository snapshots --repository {found.repository_id}")


def _bank_options(at: Path | None, bank_file: Path | None) -> tuple[str, Json]:
    if (at is None) == (bank_file is None):
        raise InvalidInputError.of("--at", None, "or --bank-file must be given, and not both")
    if at is not None:
        return "file", {"path": str(at.expanduser().absolute())}
    assert bank_file is not None
    try:
        options = yaml.safe_load(bank_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError.of("--bank-file", str(bank_file), f"cannot be read: {error}") from error
    if not isinstance(options, dict) or not isinstance(options.get("type"), str):
        raise InvalidInputError.of("--bank-file", str(bank_file), "must hold `type:` and the bank's options")
    return options.pop("type"), options


def _add_locks(noun: typer.Typer) -> None:
    @noun.command()
    def locks(
        context: typer.Context,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the locks on the bank."""
        columns = (
            ("id", "id"),
            ("time", lambda one: instant(one["time"])),
            ("host", "hostname"),
            ("exclusive", "exclusive"),
            ("stale", "stale"),
        )
        with _open(context, repository, at, password_file) as opened:
            show_list(opened.locks(), columns, output)

    @noun.command()
    def unlock(
        context: typer.Context,
        remove_all: Annotated[
            bool, typer.Option("--remove-all", help="Those that are in use, too: nothing may work on it.")
        ] = False,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
    ) -> None:
        """Remove the locks that nobody has refreshed for 30 minutes."""
        with _open(context, repository, at, password_file) as opened:
            say(f"removed {opened.unlock(remove_all=remove_all)} locks")


def _add_keys(noun: typer.Typer) -> None:
    keys = typer.Typer(help="The passwords that open it.", no_args_is_help=True)
    noun.add_typer(keys, name="key")

    @keys.command("list")
    def list_keys(
        context: typer.Context,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the key slots."""
        columns = (
            ("id", "id"),
            ("user", "username"),
            ("host", "hostname"),
            ("created", lambda one: instant(one["created"])),
            ("current", "current"),
        )
        with _open(context, repository, at, password_file) as opened:
            show_list(opened.keys(), columns, output)

    @keys.command("add")
    def add_key(
        context: typer.Context,
        new_password_file: Annotated[
            Path, typer.Option(help="A file with the new password; `-` is standard input.")
        ],
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
    ) -> None:
        """Add a password."""
        new = _read_password(new_password_file, "--new-password-file")
        with _open(context, repository, at, password_file) as opened:
            say(f"key slot {opened.add_key(new)} is made")

    @keys.command("remove")
    def remove_key(
        context: typer.Context,
        key: Annotated[str, typer.Argument(help="The beginning of its id.")],
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
    ) -> None:
        """Remove a password. Without the installation's own ones it cannot open its repository any more."""
        with _open(context, repository, at, password_file) as opened:
            say(f"key slot {opened.remove_key(key)} is removed")


def _add_restore(noun: typer.Typer) -> None:
    @noun.command()
    def restore(
        context: typer.Context,
        snapshot: Which,
        target: Annotated[Path, typer.Option(help="The folder to write into.")],
        include: Annotated[list[str] | None, typer.Option(help="Only these paths of it.")] = None,
        overwrite: Annotated[Overwriting, typer.Option(help="Files that are there.")] = Overwriting.ALWAYS,
        repository: Name = None,
        at: At = None,
        password_file: PasswordFile = None,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Write a snapshot into a folder. Ends with 8 when something could not be written whole."""
        with _open(context, repository, at, password_file) as opened:
            done = opened.restore(snapshot, target.expanduser().absolute(), include or (), overwrite.value)
        faults = done.pop("faults")
        show_item(done, output)
        _end_with(faults)


_SNAPSHOT_COLUMNS: Sequence[tuple[str, str | Callable[[Json], object]]] = (
    ("id", "id"),
    ("time", lambda one: instant(one["time"])),
    ("host", "hostname"),
    ("tags", lambda one: ", ".join(one["tags"])),
)
_NODE_COLUMNS: Sequence[tuple[str, str | Callable[[Json], object]]] = (
    ("mode", "mode"),
    ("user", "user"),
    ("size", lambda one: size(one["size"])),
    ("changed", lambda one: instant(one["mtime"])),
    ("name", lambda one: f"{one['path']} -> {one['target']}" if one["target"] else one["path"]),
)


def _open(
    context: typer.Context,
    repository: str | None,
    at: Path | None,
    password_file: Path | None,
    *,
    read_index: bool = True,
) -> AbstractContextManager[OpenedRepository]:
    from seawall.runtime.clock import SystemClock
    from seawall.wiring.offline import open_repository

    place = _place(repository, at, password_file)
    return open_repository(_settings(context), SystemClock(), place, read_index=read_index)


def _settings(context: typer.Context) -> Settings:
    from seawall.runtime.config import load_settings

    where: Where = context.find_root().obj
    return load_settings(options={"data_dir": where.data_dir or default_data_dir()})


def _place(repository: str | None, at: Path | None, password_file: Path | None) -> RepositoryPlace:
    from seawall.wiring.offline import RepositoryPlace

    if at is None:
        if password_file is not None:
            raise InvalidInputError.of("--password-file", str(password_file), "goes with --at only")
        return RepositoryPlace(repository)
    if repository is not None:
        raise InvalidInputError.of("--repository", repository, "and --at exclude each other")
    return RepositoryPlace(at=at, password=lambda: _password(password_file))


def _password(path: Path | None) -> str:
    if path is not None:
        return _read_password(path, "--password-file")
    if word := os.environ.get(_VARIABLE):
        return word
    raise InvalidInputError.of("--password-file", None, f"is missing, and {_VARIABLE} is not set")


def _read_password(path: Path, option: str) -> str:
    """The first line, as restic reads it."""
    try:
        text = sys.stdin.readline() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError.of(option, str(path), f"cannot be read: {error}") from error
    word = text.partition("\n")[0].removesuffix("\r")
    if not word:
        raise InvalidInputError.of(option, str(path), "holds no password in its first line")
    return word


def _sample(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InvalidInputError.of("--sample", text, "must be like 3/28")
    return int(number) - 1, int(of)


def _end_with(faults: Sequence[str]) -> None:
    for fault in faults:
        note(fault)
    if faults:
        raise typer.Exit(_DAMAGED)
