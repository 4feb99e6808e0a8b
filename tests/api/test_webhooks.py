# SPDX-License-Identifier: Apache-2.0
"""A signed request fires a trigger once; anything else is refused without a word about why (I10)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from seawall.core.caller import Role
from seawall.core.records import Json
from seawall.db.tables import event_triggers, idempotency_keys, runs, triggers
from tests.api.ground import Ground, content_of

WEBHOOK = {"source": "webhook"}


def _trigger(ground: Ground, **more: Any) -> Json:
    body = {"trigger_info": {"name": "hook", "type": "event", "properties": {**WEBHOOK, **more}}}
    made: Json = ground.call("POST", "/triggers", body)["trigger_info"]
    return made


def _operation(ground: Ground, trigger: Json, **more: Any) -> Json:
    body = ground.operation_body(**more)
    body["scheduled_operation"]["trigger_id"] = trigger["id"]
    made: Json = ground.call("POST", "/scheduled_operations", body)["scheduled_operation"]
    return made


def _now(ground: Ground) -> int:
    return int(ground.clock.now().timestamp())


def _fire(
    ground: Ground,
    trigger: Json,
    body: bytes = b'{"job": 7}',
    *,
    secret: str | None = None,
    at: int | str | None = None,
    key: str = "",
    signed_key: str | None = None,
    signature: str | None = None,
    project_id: str | None = None,
) -> httpx.Response:
    """As a sender does it that has read docs/events.md and nothing of ours."""
    stamp = str(_now(ground) if at is None else at)
    text = f"{stamp}\n{key if signed_key is None else signed_key}\n".encode() + body
    digest = hmac.new((secret or trigger["secret"]).encode(), text, hashlib.sha256).hexdigest()
    headers = {"Seawall-Timestamp": stamp, "Seawall-Signature": signature or f"sha256={digest}"}
    if key:
        headers["Idempotency-Key"] = key
    path = f"/v1/{project_id or ground.project_id}/triggers/{trigger['id']}/fire"
    return ground.http.post(path, content=body, headers=headers)


def _runs(ground: Ground) -> list[sa.Row[Any]]:
    query = sa.select(runs).where(runs.c.kind == "event").order_by(runs.c.row)
    return list(ground.database.read(lambda connection: connection.execute(query).all()))


def test_a_signed_request_makes_a_run_for_each_enabled_operation(ground: Ground) -> None:
    trigger = _trigger(ground)
    enabled = _operation(ground, trigger)
    _operation(ground, trigger, enabled=False)
    ground.clock.advance(1)
    answer = _fire(ground, trigger)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"fired": True, "runs": 1}
    (run,) = _runs(ground)
    assert run.scheduled_operation_id == enabled["id"]
    assert run.trigger_id == trigger["id"]
    assert run.state == "queued"
    assert (run.deadline_at - run.expected_at).total_seconds() == 1800


def test_the_same_request_fires_once(ground: Ground) -> None:
    trigger = _trigger(ground)
    _operation(ground, trigger, overlap="allow")
    ground.clock.advance(1)
    first, again = _fire(ground, trigger), _fire(ground, trigger)
    assert (first.json()["fired"], again.json()["fired"]) == (True, False)
    assert again.status_code == 202
    assert len(_runs(ground)) == 1


def test_a_repeat_under_the_same_key_fires_once_whatever_its_time(ground: Ground) -> None:
    trigger = _trigger(ground)
    _operation(ground, trigger, overlap="allow")
    ground.clock.advance(1)
    assert _fire(ground, trigger, key="deploy-1").json()["fired"] is True
    ground.clock.advance(100)
    assert _fire(ground, trigger, key="deploy-1").json()["fired"] is False
    assert _fire(ground, trigger, key="deploy-2").json()["fired"] is True
    assert len(_runs(ground)) == 2


def test_a_key_that_can_be_none_is_named(ground: Ground) -> None:
    answer = _fire(ground, _trigger(ground), key="two words")
    assert answer.status_code == 400
    (error,) = content_of(answer)["errors"]
    assert error["field"] == "Idempotency-Key"
    assert "no spaces" in error["message"]


def test_a_repeat_never_makes_way_for_itself(ground: Ground) -> None:
    """``cancel_running`` would cancel the very run that the event has made."""
    trigger = _trigger(ground)
    _operation(ground, trigger, overlap="cancel_running")
    ground.clock.advance(1)
    _fire(ground, trigger, key="k")
    _fire(ground, trigger, key="k")
    assert [run.state for run in _runs(ground)] == ["queued"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "whs_other"},
        {"signature": "sha256=" + "0" * 64},
        {"signature": "nonsense"},
        {"at": "soon"},
        {"key": "b", "signed_key": "a"},
        {"project_id": "00000000-0000-0000-0000-000000000000"},
    ],
    ids=["secret", "signature", "form", "time", "key", "project"],
)
def test_what_is_not_signed_is_refused_without_a_word_about_why(
    ground: Ground, wrong: dict[str, Any]
) -> None:
    trigger = _trigger(ground)
    _operation(ground, trigger)
    ground.clock.advance(1)
    answer = _fire(ground, trigger, **wrong)
    unknown = _fire(ground, {**trigger, "id": "00000000-0000-0000-0000-000000000000"})
    assert answer.status_code == unknown.status_code == 401
    assert content_of(answer)["message"] == content_of(unknown)["message"]
    assert _runs(ground) == []


@pytest.mark.parametrize("off_s", [-301, 301])
def test_a_request_outside_the_replay_window_is_refused(ground: Ground, off_s: int) -> None:
    trigger = _trigger(ground)
    assert _fire(ground, trigger, at=_now(ground) + off_s).status_code == 401
    assert _fire(ground, trigger, at=_now(ground) + off_s - (1 if off_s > 0 else -1)).status_code == 202


def test_a_large_body_is_refused_before_it_is_looked_at(ground: Ground) -> None:
    trigger = _trigger(ground)
    assert _fire(ground, trigger, b"x" * 64 * 1024).status_code == 202
    assert _fire(ground, trigger, b"x" * (64 * 1024 + 1)).status_code == 413


def test_a_stored_trigger_that_no_longer_holds_is_refused_and_quarantined(ground: Ground) -> None:
    trigger = _trigger(ground)
    _operation(ground, trigger)
    ground.clock.advance(1)
    broken = triggers.update().where(triggers.c.id == trigger["id"]).values(properties={"window": "soon"})
    ground.database.write("test.break", lambda tx: tx.connection.execute(broken))
    assert _fire(ground, trigger).status_code == 401
    assert _runs(ground) == []
    shown = ground.call("GET", f"/triggers/{trigger['id']}")["trigger_info"]
    assert "properties.source" in shown["quarantine_reason"]


def test_the_secret_is_shown_once_and_kept_sealed(ground: Ground) -> None:
    body = {"trigger_info": {"name": "hook", "type": "event", "properties": WEBHOOK}}
    headers = {"Idempotency-Key": "make-it"}
    made = ground.call("POST", "/triggers", body, headers=headers)["trigger_info"]
    again = ground.call("POST", "/triggers", body, headers=headers)["trigger_info"]
    assert made["id"] == again["id"]
    assert made["secret"].startswith("whs_")
    shown = ground.call("GET", f"/triggers/{made['id']}")["trigger_info"]
    assert "secret" not in again
    assert "secret" not in shown
    stored = ground.database.read(
        lambda connection: [
            str(row)
            for table in (event_triggers, idempotency_keys)
            for row in connection.execute(table.select())
        ]
    )
    assert made["secret"] not in "".join(stored)


def test_a_rotated_secret_replaces_the_former_at_once(ground: Ground) -> None:
    trigger = _trigger(ground)
    ground.refused(403, "POST", f"/triggers/{trigger['id']}/rotate_secret", role=Role.VIEWER)
    rotated = ground.call("POST", f"/triggers/{trigger['id']}/rotate_secret")["trigger_info"]
    assert rotated["secret"] != trigger["secret"]
    assert _fire(ground, trigger).status_code == 401
    assert _fire(ground, rotated).status_code == 202


def test_a_paused_webhook_is_accounted_for_in_one_gap(ground: Ground) -> None:
    trigger = _trigger(ground)
    _operation(ground, trigger)
    ground.call("POST", f"/triggers/{trigger['id']}/pause", {"reason": "holiday"})
    for _ in range(3):
        ground.clock.advance(1)
        assert _fire(ground, trigger).status_code == 202
    (gap,) = _runs(ground)
    assert (gap.state, gap.gap_count, gap.reason) == ("skipped_paused", 3, "the trigger is paused: holiday")
    ground.call("POST", f"/triggers/{trigger['id']}/resume")
    ground.clock.advance(1)
    _fire(ground, trigger)
    assert [run.state for run in _runs(ground)] == ["skipped_paused", "queued"]


def test_an_event_trigger_has_no_due_times(ground: Ground) -> None:
    trigger = _trigger(ground)
    assert trigger["next_run_at"] is None
    refused = ground.refused(400, "GET", f"/triggers/{trigger['id']}/preview")
    assert "has no due times" in refused["message"]


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ({}, "properties.source"),
        ({"source": "pigeon"}, "properties.source"),
        ({"source": "webhook", "secret": "mine"}, "properties.secret"),
        ({"source": "webhook", "window": -1}, "properties.window"),
        ({"source": "webhook", "window": True}, "properties.window"),
        ({"source": "amqp"}, "properties.routing_key"),
        ({"source": "amqp", "routing_key": "a..b"}, "properties.routing_key"),
        ({"source": "amqp", "routing_key": "a", "filter": []}, "properties.filter"),
        ({"source": "amqp", "routing_key": "a", "filter": {"a..b": 1}}, "properties.filter"),
        ({"source": "amqp", "routing_key": "a", "filter": {"a": {"b": 1}}}, "properties.filter.a"),
        ({"source": "operation"}, "properties.operation_id"),
        ({"source": "operation", "operation_id": "0" * 32, "states": ["late"]}, "properties.states"),
        ({"source": "operation", "operation_id": "0" * 32}, "properties.operation_id"),
    ],
)
def test_properties_that_break_a_rule_name_the_field(
    ground: Ground, properties: dict[str, Any], field: str
) -> None:
    body = {"trigger_info": {"name": "e", "type": "event", "properties": properties}}
    refused = ground.refused(400, "POST", "/triggers", body)
    assert field in [one["field"] for one in refused["errors"]]
