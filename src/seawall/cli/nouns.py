# SPDX-License-Identifier: Apache-2.0
"""What all nouns share: a connection, names in place of ids, ``list``, ``show``, ``delete``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from seawall.cli.output import Columns, Form, FormOption, Json, say, show_item, show_list
from seawall.client import Connection, find_address
from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.runtime.folder import DataFolder, default_data_dir

_SHORTEST_PART = 4
_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|\d+")

Limit = Annotated[int, typer.Option("--limit", min=1, help="At most this many.")]


@dataclass(frozen=True, slots=True)
class Where:
    """What the top-level options say about the service to talk to."""

    data_dir: Path | None
    url: str | None


@contextmanager
def connection(context: typer.Context) -> Iterator[Connection]:
    """The service of this command."""
    where: Where = context.find_root().obj
    folder = DataFolder((where.data_dir or default_data_dir()).expanduser().absolute())
    with Connection(find_address(folder, url=where.url)) as found:
        yield found


@dataclass(frozen=True, slots=True)
class Noun:
    """A collection of the API."""

    name: str
    path: str
    """Below the project; ``{provider}`` is filled with the provider's id."""
    many: str
    one: str
    columns: Columns
    query: Mapping[str, Any] = field(default_factory=dict)


PROVIDERS = Noun(
    "provider",
    "/providers",
    "providers",
    "provider",
    (("id", "id"), ("name", "name"), ("description", "description")),
)


def all_of(noun: Noun, api: Connection, *, limit: int = 1000, **query: Any) -> list[Json]:
    """The newest ``limit`` items."""
    found: list[Json] = []
    for item in api.items(path_of(noun, api), noun.many, **noun.query, **query):
        found.append(item)
        if len(found) == limit:
            break
    return found


def path_of(noun: Noun, api: Connection) -> str:
    """The collection's path; a provider has to be named only when there are several."""
    if "{provider}" not in noun.path:
        return noun.path
    return noun.path.format(provider=only_provider(api))


def only_provider(api: Connection) -> str:
    """The id of the one provider; ``InvalidInputError`` when there are several."""
    providers = all_of(PROVIDERS, api)
    if len(providers) != 1:
        names = ", ".join(str(one["name"]) for one in providers) or "none"
        raise InvalidInputError.of("--provider", None, f"is missing, and there is no single one: {names}")
    return str(providers[0]["id"])


def find(noun: Noun, api: Connection, word: str) -> str:
    """The id that a word stands for: an id, ``latest``, a name, or the beginning or end of an id.

    ``NotFoundError`` when there is none, ``InvalidInputError`` when there are several.
    """
    if _ID.fullmatch(word):
        return word
    items = all_of(noun, api)
    if word == "latest" and items:
        return str(items[0]["id"])
    matches = [one for one in items if one.get("name") == word]
    if len(word) >= _SHORTEST_PART:
        matches = matches or [one for one in items if str(one["id"]).startswith(word)]
        matches = matches or [one for one in items if str(one["id"]).endswith(word)]
    if len(matches) > 1:
        ids = ", ".join(str(one["id"]) for one in matches)
        raise InvalidInputError.of(noun.name, word, f"stands for several: {ids}")
    if not matches:
        raise NotFoundError(f"there is no {noun.name} {word!r}")
    return str(matches[0]["id"])


def get(noun: Noun, api: Connection, word: str) -> Json:
    """One item by any of its words."""
    found: Json = api.call("GET", f"{path_of(noun, api)}/{find(noun, api, word)}")[noun.one]
    return found


def add_list(app: typer.Typer, noun: Noun) -> None:
    """``list``"""

    @app.command("list", help=f"List the {noun.name}s, the newest first.")
    def list_items(context: typer.Context, limit: Limit = 50, output: FormOption = Form.TABLE) -> None:
        with connection(context) as api:
            show_list(all_of(noun, api, limit=limit), noun.columns, output)


def add_show(app: typer.Typer, noun: Noun) -> None:
    """``show``"""

    @app.command("show", help=f"Show one {noun.name}, by id, name, or `latest`.")
    def show(context: typer.Context, which: str, output: FormOption = Form.TABLE) -> None:
        with connection(context) as api:
            show_item(get(noun, api, which), output)


def add_delete(app: typer.Typer, noun: Noun) -> None:
    """``delete``"""

    @app.command("delete", help=f"Delete a {noun.name}.")
    def delete(context: typer.Context, which: str) -> None:
        with connection(context) as api:
            found = find(noun, api, which)
            api.call("DELETE", f"{path_of(noun, api)}/{found}")
            say(f"{noun.name} {found} is deleted")
