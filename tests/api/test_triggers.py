# SPDX-License-Identifier: Apache-2.0
"""/triggers"""

from __future__ import annotations

import uuid

import pytest

from tests.api.ground import Ground

CALENDAR = "BEGIN:VCALENDAR\\nBEGIN:VEVENT\\nRRULE:FREQ=HOURLY;INTERVAL=1\\nEND:VEVENT\\nEND:VCALENDAR"


def test_a_trigger_is_made_with_texts_as_karbor_has_them(ground: Ground) -> None:
    made = ground.trigger(window=20)
    assert made["properties"]["window"] == "20"
    assert made["next_run_at"].endswith("Z")
    assert ground.call("GET", f"/triggers/{made['id']}")["trigger_info"] == made


def test_line_ends_may_come_as_two_characters(ground: Ground) -> None:
    made = ground.trigger(format="calendar", pattern=CALENDAR)
    assert "\n" in made["properties"]["pattern"]


def test_an_update_replaces_all_or_changes_what_it_names(ground: Ground) -> None:
    made = ground.trigger(window=20)
    path = f"/triggers/{made['id']}"
    body = {"name": "renamed", "properties": {}}
    renamed = ground.call("PUT", path, {"trigger_info": body})["trigger_info"]
    assert (renamed["name"], renamed["properties"]) == ("renamed", made["properties"])
    part = ground.call("PUT", path, {"trigger_info": {"properties": {"window": "60"}}})["trigger_info"]
    assert part["properties"] == {**made["properties"], "window": "60"}
    whole = {"format": "crontab", "pattern": "0 2 * * *"}
    found = ground.call("PUT", path, {"trigger_info": {"properties": whole}})["trigger_info"]
    assert "window" not in found["properties"]
    ground.refused(400, "PUT", path, {"trigger_info": {"type": "event"}})


def test_a_paused_trigger_says_why_and_resumes(ground: Ground) -> None:
    path = f"/triggers/{ground.trigger()['id']}"
    body = {"reason": "moving house", "until": "2030-01-01T00:00:00Z"}
    paused = ground.call("POST", f"{path}/pause", body)["trigger_info"]
    assert (paused["paused_reason"], paused["paused_until_at"]) == ("moving house", "2030-01-01T00:00:00Z")
    assert ground.call("POST", f"{path}/resume")["trigger_info"]["paused_at"] is None
    for wrong in ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00", "soon", "9999-12-31T23:59:59-01:00"):
        fault = ground.refused(400, "POST", f"{path}/pause", {"until": wrong})
        assert [one["field"] for one in fault["errors"]] == ["until"]
    ground.refused(404, "POST", f"/triggers/{uuid.uuid4()}/resume")


@pytest.mark.parametrize("until", [4102444800, 4102444800000, "4102444800", 1.5, True, "2030-01-01"])
def test_a_number_is_no_time_because_its_unit_would_be_guessed(ground: Ground, until: object) -> None:
    path = f"/triggers/{ground.trigger()['id']}/pause"
    (error,) = ground.refused(400, "POST", path, {"until": until})["errors"]
    assert error["field"] == "until"
    assert "must be a time with its zone" in error["message"]


def test_a_preview_has_words_and_times_and_makes_nothing(ground: Ground) -> None:
    properties = {"format": "crontab", "pattern": "0 2 * * *", "timezone": "Europe/Paris"}
    found = ground.call("POST", "/triggers/preview", {"properties": properties, "count": 2})
    assert found["description"] == "every day at 02:00 (Europe/Paris)"
    assert [one["at"] for one in found["times"]] == ["2026-01-01T01:00:00Z", "2026-01-02T01:00:00Z"]
    assert found["times"][0].keys() == {"at", "local", "note", "starts_at", "marks"}
    assert ground.call("GET", "/triggers") == {"triggers": []}
    made = ground.trigger(**properties)
    assert ground.call("GET", f"/triggers/{made['id']}/preview", count=2) == found
    for count in (0, 101, "2"):
        ground.refused(400, "POST", "/triggers/preview", {"properties": properties, "count": count})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"type": "event"},
        {"properties": {}},
        {"properties": {"format": "interval", "pattern": "1"}},
        {"properties": {"format": "crontab", "pattern": "0 0 31 2 *"}},
        {"properties": None},
    ],
)
def test_a_wrong_trigger_is_refused(ground: Ground, wrong: dict[str, object]) -> None:
    good = {"name": "t", "type": "time", "properties": {"format": "interval", "pattern": "3600"}}
    assert ground.refused(400, "POST", "/triggers", {"trigger_info": {**good, **wrong}})["errors"]


def test_a_trigger_in_use_stays(ground: Ground) -> None:
    operation = ground.operation()
    ground.refused(424, "DELETE", f"/triggers/{operation['trigger_id']}")
    ground.call("DELETE", f"/scheduled_operations/{operation['id']}")
    assert ground.ask("DELETE", f"/triggers/{operation['trigger_id']}").content == b""


def test_triggers_are_found_by_name_and_by_what_their_properties_mention(ground: Ground) -> None:
    ground.trigger("a")
    wanted = ground.trigger("b", format="crontab", pattern="17 2 * * *")
    assert ground.call("GET", "/triggers", name="b")["triggers"] == [wanted]
    assert ground.call("GET", "/triggers", properties="17 2")["triggers"] == [wanted]
    assert len(ground.call("GET", "/triggers", limit=1)["triggers_links"]) == 1
