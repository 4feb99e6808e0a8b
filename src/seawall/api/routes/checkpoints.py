# SPDX-License-Identifier: Apache-2.0
"""/providers/{provider_id}/checkpoints"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seawall.api import documents
from seawall.api.asked import AskedDep, OnceDep
from seawall.api.paging import flag, list_query, next_links
from seawall.api.schemas.checkpoints import (
    CheckpointAnswer,
    CheckpointCreateBody,
    CheckpointsAnswer,
    CheckpointUpdateBody,
    CheckpointView,
)
from seawall.api.schemas.common import UuidText

router = documents.router("checkpoints", "/providers/{provider_id}/checkpoints")

FILTERS = ("plan_id", "status", "scheduled_operation_id", "run_id", "pinned", "start_date", "end_date")


@router.get("")
def list_checkpoints(provider_id: UuidText, asked: AskedDep) -> CheckpointsAnswer:
    """Those that are deleted are listed only when ``status`` asks for them."""
    query = list_query(asked, FILTERS)
    if "pinned" in query.filters:
        query = replace(query, filters={**query.filters, "pinned": flag("pinned", query.filters["pinned"])})
    page = asked.ports.catalogue.list_checkpoints(asked.caller, provider_id, query)
    return CheckpointsAnswer(
        checkpoints=[CheckpointView.of(one) for one in page.items],
        checkpoints_links=next_links(asked, page),
    )


@router.post("")
def create_checkpoint(
    provider_id: UuidText, body: CheckpointCreateBody, asked: AskedDep, once: OnceDep
) -> CheckpointAnswer:
    """Back up a plan now; the run ``run_id`` does it."""
    wanted = body.checkpoint

    def act() -> CheckpointAnswer:
        made = asked.ports.catalogue.create_checkpoint(
            asked.caller,
            provider_id=provider_id,
            plan_id=wanted.plan_id,
            extra_info=wanted.extra_info,
            idempotency_key=once.key,
        )
        return CheckpointAnswer(checkpoint=CheckpointView.of(made))

    return once(body, CheckpointAnswer, act)


@router.get("/{checkpoint_id}")
def show_checkpoint(provider_id: UuidText, checkpoint_id: UuidText, asked: AskedDep) -> CheckpointAnswer:
    found = asked.ports.catalogue.get_checkpoint(asked.caller, provider_id, checkpoint_id)
    return CheckpointAnswer(checkpoint=CheckpointView.of(found))


@router.put("/{checkpoint_id}", response_model=CheckpointAnswer | dict[str, Any])
def update_checkpoint(
    provider_id: UuidText, checkpoint_id: UuidText, body: CheckpointUpdateBody, asked: AskedDep
) -> CheckpointAnswer | dict[str, Any]:
    """Karbor's reset of the state, answered by ``{}``; or pin it, so that retention leaves it alone."""
    catalogue, caller = asked.ports.catalogue, asked.caller
    if body.checkpoint is None:
        assert body.reset_state is not None  # the schema has seen to it
        catalogue.reset_checkpoint(caller, provider_id, checkpoint_id, body.reset_state.state)
        return {}
    change = catalogue.pin_checkpoint if body.checkpoint.pinned else catalogue.unpin_checkpoint
    return CheckpointAnswer(checkpoint=CheckpointView.of(change(caller, provider_id, checkpoint_id)))


@router.delete("/{checkpoint_id}")
def delete_checkpoint(provider_id: UuidText, checkpoint_id: UuidText, asked: AskedDep) -> dict[str, Any]:
    """It is ``deleting`` from now on; a run whose subject it is removes it from the bank."""
    asked.ports.catalogue.delete_checkpoint(asked.caller, provider_id, checkpoint_id)
    return {}
