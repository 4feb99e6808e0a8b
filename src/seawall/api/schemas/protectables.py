# SPDX-License-Identifier: Apache-2.0
"""Resource types, and the resources that could be protected."""

from __future__ import annotations

from typing import Any

from seawall.api.ports import ProtectableType
from seawall.api.schemas.common import AnswerModel, NextLink
from seawall.sdk.protection import Instance


class ProtectablesAnswer(AnswerModel):
    protectable_type: list[str]
    """Karbor's key, in the singular, although there are several."""


class ProtectableView(AnswerModel):
    name: str
    dependent_types: list[str]
    on_host: bool

    @classmethod
    def of(cls, found: ProtectableType) -> ProtectableView:
        return cls(name=found.name, dependent_types=list(found.dependent_types), on_host=found.on_host)


class ProtectableAnswer(AnswerModel):
    protectable_type: ProtectableView


class InstanceView(AnswerModel):
    id: str
    type: str
    name: str
    extra_info: dict[str, Any] | None
    dependent_resources: list[dict[str, Any]]

    @classmethod
    def of(cls, instance: Instance) -> InstanceView:
        return cls(
            id=instance.id,
            type=instance.type,
            name=instance.name,
            extra_info=dict(instance.extra_info) or None,
            # No type of this release has resources of its own below it.
            dependent_resources=[],
        )


class InstanceAnswer(AnswerModel):
    instance: InstanceView


class InstancesAnswer(AnswerModel):
    instances: list[InstanceView]
    instances_links: NextLink = None
