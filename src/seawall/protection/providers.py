# SPDX-License-Identifier: Apache-2.0
"""Providers: one file each in ``providers.d``, written by the operator; Karbor's ini files are read too.

    id: 0c6d2f1e-...            # stays what it is: checkpoints name it
    name: default
    description: ...            # may be left out
    bank:
      type: file                # a bank plugin; the other lines are its options
      path: /srv/bank
    resource_types: [directory] # which are allowed on it; all when left out
    limits:                     # of the bank; may be left out
      upload_bytes_per_s: 10000000
    engine: restic              # who reads and writes directories; Seawall itself when left out

A file that breaks a rule becomes a fault that anybody can see, and every other provider works.
"""

from __future__ import annotations

import configparser
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import yaml

from seawall.core.errors import ConfigurationError, FieldFault, InvalidInputError, NotFoundError, PluginError
from seawall.core.records import Provider
from seawall.protection.bank_layers import opening
from seawall.protection.bank_layers.opening import LIMITS_SCHEMA
from seawall.runtime import json_schema, operator_files
from seawall.runtime.clock import SystemClock
from seawall.runtime.folder import DataFolder, write_private
from seawall.runtime.operator_files import FileFault, OperatorFile

if TYPE_CHECKING:
    from seawall.runtime.registry import Plugins
    from seawall.sdk.bank import Bank
    from seawall.sdk.clock import Clock

DEFAULT_NAME: Final = "default"
_SUFFIXES: Final = (".yaml", ".yml", ".conf", ".ini")
_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": {"type": "string", "maxLength": 255},
        "bank": {
            "type": "object",
            "properties": {"type": {"type": "string", "minLength": 1}},
            "required": ["type"],
        },
        "resource_types": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "uniqueItems": True,
        },
        "limits": LIMITS_SCHEMA,
        "adopted": {"type": "string", "minLength": 1},
        "engine": {"enum": ["seawall", "restic"]},
    },
    "required": ["id", "name", "bank"],
    "additionalProperties": False,
}
_PLAIN: Final = (
    "id", "name", "description", "bank.type", "bank.path", "resource_types", "limits", "adopted", "engine",
)  # fmt: skip
# Karbor's file bank by its entry point and by its class.
_KARBOR_FILE_BANKS: Final = ("karbor-fs-bank-plugin", "file_system_bank_plugin.FileSystemBankPlugin")


class Providers:
    """The providers of one installation; thread-safe. A changed file is read anew by the next question."""

    def __init__(self, folder: Path, banks: Plugins[Bank], *, clock: Clock | None = None) -> None:
        """``clock`` is what opened banks wait by; the system's when it is not given."""
        self._clock = clock or SystemClock()
        self._folder = folder
        self._banks = banks
        self._lock = threading.Lock()
        self._signature: operator_files.Signature | None = None
        self._found: dict[str, Provider] = {}
        self._local: dict[Path, str] = {}
        self._faults: tuple[FileFault, ...] = ()

    @property
    def faults(self) -> tuple[FileFault, ...]:
        """The files that are not used now, each with the reason."""
        with self._lock:
            self._look()
            return self._faults

    def list(self) -> tuple[Provider, ...]:
        """All that can be used, by name."""
        with self._lock:
            self._look()
            return tuple(sorted(self._found.values(), key=lambda one: (one.name, one.id)))

    def get(self, provider_id: str) -> Provider:
        """One by its id; ``NotFoundError`` names the files that cannot be used, for it may be one of them."""
        with self._lock:
            self._look()
            found = self._found.get(_uuid(provider_id) or "")
            if found is not None:
                return found
            broken = "".join(f"; not usable: {fault}" for fault in self._faults)
        raise NotFoundError(f"there is no provider {provider_id}{broken}")

    def open_bank(self, provider: Provider) -> Bank:
        """Its bank with its layers, the caller's to close."""
        plugin = self._banks.get(provider.bank)
        return opening.open_bank(
            plugin, provider.bank_options, provider.limits, self._clock, adopted=provider.adopted
        )

    def local_banks(self) -> dict[Path, str]:
        """The banks that are folders of this host, and whose: they are never backed up."""
        with self._lock:
            self._look()
            return dict(self._local)

    def _look(self) -> None:
        """Read the folder again if something in it has changed. Under the lock."""
        now = operator_files.signature(self._folder, _SUFFIXES)
        if self._signature == now:
            return
        files, faults = operator_files.read(self._folder, _SUFFIXES)
        found: dict[str, Provider] = {}
        local: dict[Path, str] = {}
        for file in files:
            try:
                provider = parse(file)
                if provider is None:
                    continue
                path = check_bank(provider, self._banks)
                if provider.id in found:
                    raise ConfigurationError.of(
                        "id", provider.id, f"is that of the provider {found[provider.id].name!r} too"
                    )
            except InvalidInputError as error:
                faults.append(FileFault(str(file.path), str(error)))
            else:
                found[provider.id] = provider
                if path is not None:
                    local[path] = f"the bank of the provider {provider.name!r}"
        self._local = local
        self._found, self._faults, self._signature = found, tuple(faults), now


def parse(file: OperatorFile) -> Provider | None:
    """The provider of a file; None when a Karbor file says that it is not enabled."""
    if file.path.suffix in (".conf", ".ini"):
        values = _from_karbor(file)
        if values is None:
            return None
    else:
        values = operator_files.parse_yaml(file)
    wrong = json_schema.faults(_SCHEMA, values, "")
    for name in ("id", "adopted"):
        if isinstance(values.get(name), str) and _uuid(values[name]) is None:
            wrong.append(FieldFault(name, values[name], "must be a UUID"))
    if wrong:
        raise ConfigurationError([_shown(one) for one in wrong])
    options = {key: value for key, value in values["bank"].items() if key != "type"}
    return Provider(
        id=str(UUID(values["id"])),
        name=values["name"],
        description=values.get("description", ""),
        bank=values["bank"]["type"],
        bank_options=options,
        resource_types=tuple(values.get("resource_types", ())),
        limits=values.get("limits", {}),
        adopted=values.get("adopted"),
        engine=values.get("engine", "seawall"),
    )


def check_bank(provider: Provider, banks: Plugins[Bank]) -> Path | None:
    """The folder of this host that its bank is, if it is one.

    ``ConfigurationError`` when there is no such bank, or its options break its schema.
    """
    try:
        plugin = banks.get(provider.bank)
        wrong = json_schema.faults(plugin.options_schema, provider.bank_options, "bank")
    except PluginError as error:
        raise ConfigurationError.of("bank.type", provider.bank, f"cannot be used: {error}") from error
    if wrong:
        raise ConfigurationError([_shown(one) for one in wrong])
    try:
        # A bank says in its constructor what a schema cannot; it touches no store there.
        bank = plugin(**provider.bank_options)
    except InvalidInputError as error:
        raise ConfigurationError(
            [FieldFault(f"bank.{one.field}", one.value, one.rule) for one in error.fields]
        ) from error
    try:
        path = bank.features.local_path
    finally:
        bank.close()
    return None if path is None else Path(path)


def write(folder: Path, name: str, provider: Provider) -> Path:
    """Write a provider's file ``<name>.yaml``; whole or not at all, closed to others."""
    folder.mkdir(mode=0o700, exist_ok=True)
    values: dict[str, Any] = {
        "id": provider.id,
        "name": provider.name,
        "description": provider.description,
        "bank": {"type": provider.bank, **provider.bank_options},
    }
    if provider.resource_types:
        values["resource_types"] = list(provider.resource_types)
    if provider.limits:
        values["limits"] = dict(provider.limits)
    if provider.adopted is not None:
        values["adopted"] = provider.adopted
    if provider.engine != "seawall":
        values["engine"] = provider.engine
    path = folder / f"{name}.yaml"
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    write_private(path, "# A provider: where checkpoints go. Its id must stay as it is.\n" + text)
    return path


def ensure_default(folder: DataFolder) -> Provider | None:
    """The provider of ``default.yaml``; it is made, with the bank in the data folder, when there is no file.

    None when the operator has other providers instead, or when the file is broken: then ``Providers.faults``
    says why. Its id is made once and stays in the file.
    """
    path = folder.providers / f"{DEFAULT_NAME}.yaml"
    files, faults = operator_files.read(folder.providers, _SUFFIXES)
    if not files and not faults and not path.exists():
        made = Provider(
            id=str(uuid4()),
            name=DEFAULT_NAME,
            description="The bank in the data folder",
            bank="file",
            bank_options={"path": str(folder.bank)},
            resource_types=(),
        )
        write(folder.providers, DEFAULT_NAME, made)
    files, _ = operator_files.read(folder.providers, (path.suffix,))
    for file in files:
        if file.path == path:
            try:
                return parse(file)
            except InvalidInputError:
                return None  # not hidden: ``Providers.faults`` reads the same file and says why
    return None


def _from_karbor(file: OperatorFile) -> dict[str, Any] | None:
    """The values of a Karbor provider file with the file bank; None when it is not enabled."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, default_section="DEFAULT")
    try:
        parser.read_string(file.text)
        given = parser["provider"]
        is_enabled = given.getboolean("enabled", False)
    except KeyError:
        raise ConfigurationError.of("provider", None, "is a section that is needed") from None
    except (configparser.Error, ValueError) as error:
        raise ConfigurationError.of("file", str(file.path), f"cannot be read as ini: {error}") from error
    if not is_enabled:
        return None
    bank = given.get("bank", "")
    if not bank.endswith(_KARBOR_FILE_BANKS):
        raise ConfigurationError.of(
            "provider.bank", bank, "is not a bank that is read from Karbor's files; write it as YAML"
        )
    values: dict[str, Any] = {
        "bank": {
            "type": "file",
            "path": parser.get("file_system_bank_plugin", "file_system_bank_path", fallback=""),
        }
    }
    return {**values, **{key: given[key] for key in ("id", "name", "description") if key in given}}


def _shown(fault: FieldFault) -> FieldFault:
    """Options may hold secrets: a fault names field and rule, and shows only values that are plainly none."""
    is_plain = fault.value is None or fault.field.partition("[")[0] in _PLAIN
    return fault if is_plain else FieldFault(fault.field, "...", fault.rule)


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None
