# SPDX-License-Identifier: Apache-2.0
"""/triggers, with schedule previews, pause and resume."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response

from seawall.api import documents
from seawall.api.asked import Asked, AskedDep, OnceDep
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.triggers import (
    PauseBody,
    PreviewAnswer,
    PreviewBody,
    TriggerAnswer,
    TriggerCreateBody,
    TriggersAnswer,
    TriggerUpdateBody,
    TriggerView,
    due_view,
)
from seawall.core.errors import InvalidInputError
from seawall.core.schedule import describe, load_schedule

router = documents.router("triggers", "/triggers")


@router.get("")
def list_triggers(asked: AskedDep) -> TriggersAnswer:
    page = asked.ports.schedules.list_triggers(
        asked.caller, list_query(asked, ("name", "type", "properties"))
    )
    return TriggersAnswer(
        triggers=[TriggerView.of(trigger) for trigger in page.items],
        triggers_links=next_links(asked, page),
    )


@router.post("")
def create_trigger(body: TriggerCreateBody, asked: AskedDep, once: OnceDep) -> TriggerAnswer:
    """The answer that makes a webhook trigger, and no other, has its secret."""
    wanted = body.trigger_info
    secret: str | None = None

    def act() -> TriggerAnswer:
        nonlocal secret
        trigger = asked.ports.schedules.create_trigger(
            asked.caller, name=wanted.name, type=wanted.type, properties=_unescaped(wanted.properties)
        )
        secret = trigger.secret
        return TriggerAnswer(trigger_info=TriggerView.of(trigger))

    answer = once(body, TriggerAnswer, act)
    # After it was kept for a repeat of the request: a secret is not (I10).
    answer.trigger_info.secret = secret
    return answer


@router.post("/preview")
def preview_properties(body: PreviewBody, asked: AskedDep) -> PreviewAnswer:
    """The next times of a schedule that does not exist yet."""
    return _preview(asked, _unescaped(body.properties), body.count)


@router.get("/{trigger_id}")
def show_trigger(trigger_id: UuidText, asked: AskedDep) -> TriggerAnswer:
    return TriggerAnswer(
        trigger_info=TriggerView.of(asked.ports.schedules.get_trigger(asked.caller, trigger_id))
    )


@router.get("/{trigger_id}/preview")
def preview_trigger(
    trigger_id: UuidText, asked: AskedDep, count: Annotated[int, Query(ge=1, le=100)] = 5
) -> PreviewAnswer:
    """The next times of a trigger."""
    trigger = asked.ports.schedules.get_trigger(asked.caller, trigger_id)
    if trigger.type == "event":
        raise InvalidInputError.of("type", trigger.type, "has no due times: it fires when its events come")
    return _preview(asked, trigger.properties, count, trigger.id)


@router.put("/{trigger_id}")
def update_trigger(trigger_id: UuidText, body: TriggerUpdateBody, asked: AskedDep) -> TriggerAnswer:
    """Properties with a format and a pattern replace all; others change only what they name."""
    wanted = body.trigger_info
    schedules = asked.ports.schedules
    current = schedules.get_trigger(asked.caller, trigger_id)
    if wanted.type is not None and wanted.type != current.type:
        raise InvalidInputError.of("type", wanted.type, f"cannot be changed from {current.type}")
    properties = _unescaped(wanted.properties) if wanted.properties else None
    if properties is not None and current.type == "event":
        properties = {**current.properties, **properties}
    elif properties is not None and not {"format", "pattern"} <= properties.keys():
        # Karbor's shell sends only what its user typed.
        properties = {**current.properties, **properties}
    trigger = schedules.update_trigger(asked.caller, trigger_id, name=wanted.name, properties=properties)
    return TriggerAnswer(trigger_info=TriggerView.of(trigger))


@router.delete("/{trigger_id}", response_class=Response)
def delete_trigger(trigger_id: UuidText, asked: AskedDep) -> Response:
    asked.ports.schedules.delete_trigger(asked.caller, trigger_id)
    return Response(media_type="application/json")


@router.post("/{trigger_id}/pause")
def pause_trigger(trigger_id: UuidText, body: PauseBody, asked: AskedDep) -> TriggerAnswer:
    trigger = asked.ports.schedules.pause_trigger(
        asked.caller, trigger_id, reason=body.reason, until_at=body.until
    )
    return TriggerAnswer(trigger_info=TriggerView.of(trigger))


@router.post("/{trigger_id}/resume")
def resume_trigger(trigger_id: UuidText, asked: AskedDep) -> TriggerAnswer:
    trigger = asked.ports.schedules.resume_trigger(asked.caller, trigger_id)
    return TriggerAnswer(trigger_info=TriggerView.of(trigger))


@router.post("/{trigger_id}/rotate_secret")
def rotate_secret(trigger_id: UuidText, asked: AskedDep) -> TriggerAnswer:
    """A new secret for a webhook trigger, shown in this answer alone; the former one is refused at once."""
    trigger = asked.ports.schedules.rotate_secret(asked.caller, trigger_id)
    view = TriggerView.of(trigger)
    view.secret = trigger.secret
    return TriggerAnswer(trigger_info=view)


def _preview(
    asked: Asked, properties: dict[str, Any], count: int, trigger_id: str | None = None
) -> PreviewAnswer:
    start = asked.ports.clock.now().strftime("%Y-%m-%d %H:%M:%S")
    whole = {**properties, "start_time": properties.get("start_time") or start}
    times = asked.ports.schedules.preview(asked.caller, whole, count=count, trigger_id=trigger_id)
    return PreviewAnswer(description=describe(load_schedule(whole)), times=[due_view(one) for one in times])


def _unescaped(properties: dict[str, Any]) -> dict[str, Any]:
    """Karbor's shell sends line ends in a calendar as a backslash and an n."""
    pattern = properties.get("pattern")
    if isinstance(pattern, str) and "\\n" in pattern and "\n" not in pattern:
        return {**properties, "pattern": pattern.replace("\\r", "").replace("\\n", "\n")}
    return properties
