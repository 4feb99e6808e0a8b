# SPDX-License-Identifier: Apache-2.0
"""/providers"""

from __future__ import annotations

from seawall.api import documents
from seawall.api.asked import AskedDep
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.providers import ProviderAnswer, ProvidersAnswer, ProviderView

router = documents.router("providers", "/providers")


@router.get("")
def list_providers(asked: AskedDep) -> ProvidersAnswer:
    catalogue = asked.ports.catalogue
    page = catalogue.list_providers(asked.caller, list_query(asked, ("name", "description")))
    return ProvidersAnswer(
        providers=[ProviderView.of(one, catalogue.protectable) for one in page.items],
        providers_links=next_links(asked, page),
    )


@router.get("/{provider_id}")
def show_provider(provider_id: UuidText, asked: AskedDep) -> ProviderAnswer:
    catalogue = asked.ports.catalogue
    found = catalogue.get_provider(asked.caller, provider_id)
    return ProviderAnswer(provider=ProviderView.of(found, catalogue.protectable))
