# SPDX-License-Identifier: Apache-2.0
"""/services, which Karbor's clients know as /os-services, and the quotas that they ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from seawall.api import documents
from seawall.api.asked import Asked, AskedDep
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.quotas import QuotaAnswer, QuotaClassAnswer, QuotaView
from seawall.api.schemas.services import ServiceAnswer, ServicesAnswer, ServiceUpdateBody, ServiceView
from seawall.core.errors import FieldFault, ForbiddenError, InvalidInputError

router = documents.router("services")

ServiceId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/services")
@router.get("/os-services", include_in_schema=False)
def list_services(asked: AskedDep) -> ServicesAnswer:
    """Every service of the installation; ``host`` and ``binary`` choose."""
    given = asked.request.query_params
    unknown = [name for name in given if name not in ("host", "binary")]
    if unknown:
        rule = "is not known here; known are binary, host"
        raise InvalidInputError([FieldFault(name, given[name], rule) for name in unknown])
    now = asked.ports.clock.now()
    return ServicesAnswer(
        services=[
            ServiceView.of(one, now)
            for one in asked.ports.services.list()
            if given.get("host") in (None, "", one.host) and given.get("binary") in (None, "", one.binary)
        ]
    )


@router.put("/services/{service_id}")
@router.put("/os-services/{service_id}", include_in_schema=False)
def update_service(service_id: ServiceId, body: ServiceUpdateBody, asked: AskedDep) -> ServiceAnswer:
    services = asked.ports.services
    if body.status == "disabled":
        changed = services.disable(asked.caller, service_id, reason=body.disabled_reason)
    elif body.disabled_reason is not None:
        raise InvalidInputError.of("disabled_reason", body.disabled_reason, "is for status disabled only")
    else:
        changed = services.enable(asked.caller, service_id)
    return ServiceAnswer(service=ServiceView.of(changed, asked.ports.clock.now()))


@router.get("/quotas/{of_project}")
def show_quota(of_project: UuidText, asked: AskedDep) -> QuotaAnswer:
    """Nothing is limited in this release: -1, as Karbor says it."""
    return _quota(asked, of_project)


@router.get("/quotas/{of_project}/defaults")
def show_quota_defaults(of_project: UuidText, asked: AskedDep) -> QuotaAnswer:
    return _quota(asked, of_project)


@router.get("/quota_classes/{name}")
def show_quota_class(name: str, asked: AskedDep) -> QuotaClassAnswer:
    return QuotaClassAnswer(quota_class=QuotaView(id=name))


def _quota(asked: Asked, of_project: str) -> QuotaAnswer:
    own = asked.caller.project_id.replace("-", "").lower()
    if of_project.replace("-", "") != own and not asked.caller.is_admin:
        raise ForbiddenError("only an administrator may see the quota of another project")
    return QuotaAnswer(quota=QuotaView(id=of_project))
