# SPDX-License-Identifier: Apache-2.0
"""The kinds of plugins, and where each is found (M9, M11)."""

from __future__ import annotations

from seawall.runtime.config import Settings
from seawall.runtime.registry import PluginKind, Plugins, load_plugins
from seawall.sdk.bank import Bank
from seawall.sdk.executor import Executor
from seawall.sdk.operation import Operation
from seawall.sdk.protection import Protectable, ProtectionPlugin

# mypy wants a class that can be made; a protocol stands here for its kind and is never made.
_OPERATIONS: PluginKind[Operation] = PluginKind(
    "seawall.operations",
    "operation_type",
    Operation,  # type: ignore[type-abstract]  # see above
    "seawall.operation_engine.operations",
)
_EXECUTORS: PluginKind[Executor] = PluginKind(
    "seawall.executors",
    "executor_name",
    Executor,  # type: ignore[type-abstract]  # see above
    "seawall.operation_engine.executors",
)
_BANKS: PluginKind[Bank] = PluginKind(
    "seawall.banks",
    "bank_name",
    Bank,  # type: ignore[type-abstract]  # see above
    "seawall.protection.banks",
)
_PROTECTABLES: PluginKind[Protectable] = PluginKind(
    "seawall.protectables",
    "resource_type",
    Protectable,  # type: ignore[type-abstract]  # see above
    "seawall.protection.protectables",
)
_PROTECTIONS: PluginKind[ProtectionPlugin] = PluginKind(
    "seawall.protections",
    "resource_type",
    ProtectionPlugin,  # type: ignore[type-abstract]  # see above
    "seawall.protection.plugins",
)


def load_operations(settings: Settings) -> Plugins[Operation]:
    """Built in, installed, and dropped into the operation folders."""
    return load_plugins(_OPERATIONS, folders=settings.all_operation_folders)


def load_executors() -> Plugins[Executor]:
    return load_plugins(_EXECUTORS)


def load_banks() -> Plugins[Bank]:
    return load_plugins(_BANKS)


def load_protectables() -> Plugins[Protectable]:
    return load_plugins(_PROTECTABLES)


def load_protections() -> Plugins[ProtectionPlugin]:
    return load_plugins(_PROTECTIONS)
