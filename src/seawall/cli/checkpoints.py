# SPDX-License-Identifier: Apache-2.0
"""``seawall checkpoint``: what is stored."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated
from urllib.parse import unquote_to_bytes

import typer

from seawall.cli.archive import save
from seawall.cli.nouns import (
    Limit,
    Noun,
    add_delete,
    add_show,
    all_of,
    connection,
    find,
    get,
    path_of,
)
from seawall.cli.output import Columns, Form, FormOption, Json, instant, say, show_item, show_list, size
from seawall.cli.plans import PLANS
from seawall.cli.progress import follow
from seawall.client import Connection

CHECKPOINTS = Noun(
    "checkpoint",
    "/providers/{provider}/checkpoints",
    "checkpoints",
    "checkpoint",
    (
        ("id", "id"),
        ("plan", lambda one: one["protection_plan"]["name"]),
        ("status", "status"),
        ("created (UTC)", lambda one: instant(one["created_at"])),
        ("items", "items"),
        ("read", lambda one: size(one["read_bytes"])),
        ("new", lambda one: size(one["added_bytes"])),
        ("remark", lambda one: one["reason"] or ("pinned" if one["pinned"] else "")),
    ),
)

_FILES: Columns = (
    ("name", "name"),
    ("type", "type"),
    ("size", lambda one: size(one["size"]) if one["type"] == "file" else ""),
    ("mode", "mode"),
    ("modified (UTC)", lambda one: instant(one["modified_at"])),
    ("target", lambda one: one["target"] or ""),
)


class Archive(StrEnum):
    """The kinds of archives."""

    TAR = "tar"
    ZIP = "zip"


Which = Annotated[str, typer.Argument(help="Its id, or `latest`.")]
PathOption = Annotated[
    str, typer.Option("--path", help="As at the source, /srv/www, or as `files` names it.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    noun = typer.Typer(help="What is stored.", no_args_is_help=True)
    app.add_typer(noun, name="checkpoint")
    add_show(noun, CHECKPOINTS)
    add_delete(noun, CHECKPOINTS)
    _add_files(noun)

    @noun.command("list")
    def list_checkpoints(
        context: typer.Context,
        plan: Annotated[str | None, typer.Option(help="Only those of this plan.")] = None,
        limit: Limit = 50,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List the checkpoints, the newest first."""
        with connection(context) as api:
            plan_id = find(PLANS, api, plan) if plan else None
            show_list(all_of(CHECKPOINTS, api, limit=limit, plan_id=plan_id), CHECKPOINTS.columns, output)

    @noun.command()
    def create(
        context: typer.Context,
        plan: Annotated[str, typer.Option(help="Its id, name, or `latest`.")],
        wait: Wait = False,
        output: FormOption = Form.TABLE,
    ) -> None:
        """Back up a plan now."""
        with connection(context) as api:
            found = get(PLANS, api, plan)
            path = f"/providers/{found['provider_id']}/checkpoints"
            made = api.call("POST", path, {"checkpoint": {"plan_id": found["id"]}})["checkpoint"]
            if wait:
                follow(api, made["run_id"])
                made = api.call("GET", f"{path}/{made['id']}")["checkpoint"]
            show_item(made, output)

    @noun.command()
    def pin(context: typer.Context, which: str) -> None:
        """Keep it whatever the retention says."""
        _pin(context, which, is_pinned=True)

    @noun.command()
    def unpin(context: typer.Context, which: str) -> None:
        """Leave it to the retention again."""
        _pin(context, which, is_pinned=False)


def _add_files(noun: typer.Typer) -> None:
    @noun.command()
    def files(
        context: typer.Context,
        which: Which,
        path: PathOption = "",
        limit: Limit = 1000,
        output: FormOption = Form.TABLE,
    ) -> None:
        """List a folder of a checkpoint; without a path, the folders of its resources."""
        with connection(context) as api:
            place = f"{path_of(CHECKPOINTS, api)}/{find(CHECKPOINTS, api, which)}/files"
            show_list(_files(api, place, os.fsencode(path), limit), _FILES, output)

    @noun.command()
    def download(
        context: typer.Context,
        which: Which,
        path: PathOption = "",
        form: Annotated[Archive, typer.Option("--format", help="The kind of archive.")] = Archive.TAR,
        out: Annotated[
            str, typer.Option("-O", "--out", help="A new file; `-` is the standard output.")
        ] = "-",
    ) -> None:
        """Download a file or folder of a checkpoint as an archive; without a path, all of it."""
        with connection(context) as api:
            place = f"{path_of(CHECKPOINTS, api)}/{find(CHECKPOINTS, api, which)}/download"
            with api.stream(place, path=os.fsencode(path), format=form.value) as pieces:
                size_bytes = save(pieces, out)
        if out != "-":
            say(f"{out}: {size(size_bytes)}")


def _files(api: Connection, place: str, path: bytes, limit: int) -> list[Json]:
    found: list[Json] = []
    marker: bytes | None = None
    while len(found) < limit:
        page = api.call("GET", place, path=path, marker=marker, limit=limit - len(found))
        found += page["files"]
        if not page.get("files_links"):
            break
        marker = unquote_to_bytes(found[-1]["quoted_path"]).rpartition(b"/")[2]
    return found


def _pin(context: typer.Context, which: str, *, is_pinned: bool) -> None:
    with connection(context) as api:
        found = find(CHECKPOINTS, api, which)
        body = {"checkpoint": {"pinned": is_pinned}}
        api.call("PUT", f"{path_of(CHECKPOINTS, api)}/{found}", body)
        say(f"checkpoint {found} is {'pinned' if is_pinned else 'no longer pinned'}")
