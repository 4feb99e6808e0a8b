# SPDX-License-Identifier: Apache-2.0
"""One installation in a temporary folder: a real database, a real bank, two projects."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import yaml

from seawall.core.caller import Caller
from seawall.core.records import Checkpoint, Json
from seawall.db import projects
from seawall.db.migrations import upgrade
from seawall.db.session import Database
from seawall.protection import providers
from seawall.protection.allowlist import AllowList
from seawall.protection.catalogue import Catalogue
from seawall.protection.catalogue_plans import PlanSources
from seawall.protection.providers import Providers
from seawall.runtime.folder import DataFolder
from seawall.runtime.registry import PluginKind, Plugins, load_plugins
from seawall.runtime.secrets import InstallKey
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.bank import Bank
from seawall.sdk.protection import Protectable, ProtectionPlugin
from seawall.sdk.testing.clock import FakeClock

# The protocols are what the plugins must satisfy; none of them is made here.
BANKS = PluginKind("seawall.banks", "bank_name", Bank, "seawall.protection.banks")  # type: ignore[type-abstract]
PROTECTABLE_KIND = PluginKind(
    "seawall.protectables",
    "resource_type",
    Protectable,  # type: ignore[type-abstract]
    "seawall.protection.protectables",
)
PROTECTION_KIND = PluginKind("seawall.protections", "resource_type", ProtectionPlugin)  # type: ignore[type-abstract]

# Plugins of somebody else: what a type's parameters may be, and a type that lives on no host.
PROTECTIONS = """\
class _Plugin:
    parameters_schema = {
        "type": "object",
        "properties": {"excludes": {"type": "array", "items": {"type": "string"}}},
        "additionalProperties": False,
    }
    restore_schema = {
        "type": "object",
        "properties": {"overwrite": {"enum": ["always", "never"]}},
        "additionalProperties": False,
    }

    def protect(self, resource, writer, context):
        raise NotImplementedError

    def restore(self, resource, tree_id, reader, target, options, context):
        raise NotImplementedError


class Directory(_Plugin):
    resource_type = "directory"


class Sqlite(_Plugin):
    resource_type = "sqlite"


class Note(_Plugin):
    resource_type = "note"
"""
PROTECTABLES = """\
from seawall.core.errors import NotFoundError
from seawall.sdk.protection import Instance


class Note:
    resource_type = "note"
    dependent_types = ()
    on_host = False
    asked = []

    def instances(self, allowed_roots, parameters):
        return [Instance("note", f"n{number}", f"note {number}") for number in range(5)]

    def instance(self, resource_id, allowed_roots):
        for call in list(self.asked):
            call()
        for one in self.instances(allowed_roots, {}):
            if one.id == resource_id:
                return one
        raise NotFoundError(f"there is no note {resource_id}")
"""


class Ground:
    """What the tests stand on."""

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        """``database`` is one with tables and nothing else in it; by default a file in the data folder."""
        self.folder = folder
        self.data = DataFolder(folder / "data")
        self.data.create()
        self.srv = folder / "srv"
        self.srv.mkdir()
        self.clock = FakeClock()
        self.install_key = InstallKey.load_or_create(self.data.install_key)
        self.database = database or Database(self.data.database, self.clock)
        if database is None:
            upgrade(self.database)
        self.project_id = self.database.write("test", lambda tx: projects.create(tx, "admin"))
        self.other_id = self.database.write("test", lambda tx: projects.create(tx, "other"))
        self.caller = Caller(self.project_id, "alice", is_admin=False, request_id="req-1")
        self.stranger = Caller(self.other_id, "mallory", is_admin=False)
        self.allow("admin", self.srv)
        made = providers.ensure_default(self.data)
        assert made is not None
        self.provider = made
        self.banks: Plugins[Bank] = load_plugins(
            BANKS,
            installed=lambda group: (),
        )
        self.providers = Providers(self.data.providers, self.banks)
        self.allowlist = AllowList(
            self.data.projects,
            name_of=lambda project_id: self.database.read(lambda c: projects.name_of(c, project_id)),
            own_places=lambda: {self.data.path: "Seawall's data folder", **self.providers.local_banks()},
        )
        self.sources = PlanSources(
            protectables=load_plugins(
                PROTECTABLE_KIND,
                folders=[self._plugins("protectables", PROTECTABLES)],
                installed=lambda group: (),
            ),
            protections=load_plugins(
                PROTECTION_KIND,
                folders=[self._plugins("protections", PROTECTIONS)],
                installed=lambda group: (),
            ),
            allowlist=self.allowlist,
            host="here",
            hosts=lambda: ("there",),
        )
        self.wakeup = Wakeup()
        self.structure_faults: list[str] = []
        self.catalogue = Catalogue(
            self.database,
            install_key=self.install_key,
            providers=self.providers,
            sources=self.sources,
            wakeup=self.wakeup,
            check=self._check,
        )

    def _check(self, checkpoint: Checkpoint) -> Sequence[str]:
        return self.structure_faults

    def _plugins(self, name: str, text: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        (folder / "more.py").write_text(text)
        (folder / "more.py").chmod(0o600)
        return folder

    def allow(self, project: str, *roots: Path) -> None:
        self.data.projects.mkdir(mode=0o700, exist_ok=True)
        path = self.data.projects / f"{project}.yaml"
        path.write_text(yaml.safe_dump({"project": project, "roots": [str(root) for root in roots]}))
        path.chmod(0o600)

    def directory(self, name: str = "files") -> Json:
        path = self.srv / name
        path.mkdir(exist_ok=True)
        (path / "a").write_text("alpha")
        return {"type": "directory", "id": str(path), "name": name}

    def sqlite(self, name: str = "app.db") -> Json:
        path = self.srv / name
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
        connection.close()
        return {"type": "sqlite", "id": str(path), "name": name}
