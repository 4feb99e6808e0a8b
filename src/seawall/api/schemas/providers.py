# SPDX-License-Identifier: Apache-2.0
"""Providers. The options of a bank are not shown: they may hold secrets (I10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seawall.api.ports import ProtectableType
from seawall.api.schemas.common import AnswerModel, NextLink
from seawall.core.records import Provider


class ProviderView(AnswerModel):
    id: str
    name: str
    description: str
    extended_info_schema: dict[str, dict[str, Any]]
    """By kind and resource type, JSON schemas: of a plan's parameters, of a restore's, of what is saved."""
    bank: str
    resource_types: list[str]

    @classmethod
    def of(cls, provider: Provider, type_of: Callable[[str], ProtectableType]) -> ProviderView:
        types = {name: type_of(name) for name in provider.resource_types}
        return cls(
            id=provider.id,
            name=provider.name,
            description=provider.description,
            extended_info_schema={
                "options_schema": {name: dict(one.parameters_schema) for name, one in types.items()},
                "restore_schema": {name: dict(one.restore_schema) for name, one in types.items()},
                "saved_info_schema": {name: {} for name in types},
            },
            bank=provider.bank,
            resource_types=list(provider.resource_types),
        )


class ProviderAnswer(AnswerModel):
    provider: ProviderView


class ProvidersAnswer(AnswerModel):
    providers: list[ProviderView]
    providers_links: NextLink = None
