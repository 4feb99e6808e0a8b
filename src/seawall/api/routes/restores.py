# SPDX-License-Identifier: Apache-2.0
"""/restores"""

from __future__ import annotations

from seawall.api import documents
from seawall.api.asked import AskedDep, OnceDep
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.restores import RestoreAnswer, RestoreCreateBody, RestoresAnswer, RestoreView

router = documents.router("restores", "/restores")


@router.get("")
def list_restores(asked: AskedDep) -> RestoresAnswer:
    query = list_query(asked, ("status", "checkpoint_id", "provider_id", "run_id"))
    page = asked.ports.catalogue.list_restores(asked.caller, query)
    return RestoresAnswer(
        restores=[RestoreView.of(one) for one in page.items],
        restores_links=next_links(asked, page),
    )


@router.post("")
def create_restore(body: RestoreCreateBody, asked: AskedDep, once: OnceDep) -> RestoreAnswer:
    """Bring a checkpoint back; the run ``run_id`` does it."""
    wanted = body.restore

    def act() -> RestoreAnswer:
        made = asked.ports.catalogue.create_restore(
            asked.caller,
            provider_id=wanted.provider_id,
            checkpoint_id=wanted.checkpoint_id,
            restore_target=wanted.restore_target,
            parameters=wanted.parameters or {},
        )
        return RestoreAnswer(restore=RestoreView.of(made))

    return once(body, RestoreAnswer, act)


@router.get("/{restore_id}")
def show_restore(restore_id: UuidText, asked: AskedDep) -> RestoreAnswer:
    found = asked.ports.catalogue.get_restore(asked.caller, restore_id)
    return RestoreAnswer(restore=RestoreView.of(found))
