# SPDX-License-Identifier: Apache-2.0
"""/protectables and /providers"""

from __future__ import annotations

import json
import uuid

from tests.api.ground import Ground


def test_types_and_what_a_host_has_of_them(ground: Ground) -> None:
    assert set(ground.call("GET", "/protectables")["protectable_type"]) == {"directory", "note", "sqlite"}
    shown = ground.call("GET", "/protectables/note")["protectable_type"]
    assert (shown["name"], shown["dependent_types"]) == ("note", [])
    page = ground.call("GET", "/protectables/note/instances", limit=2)
    assert [one["id"] for one in page["instances"]] == ["n0", "n1"]
    rest = ground.call("GET", "/protectables/note/instances", limit=9, marker="n1")
    assert [one["id"] for one in rest["instances"]] == ["n2", "n3", "n4"]
    instance = ground.call("GET", "/protectables/note/instances/n1")["instance"]
    assert instance == {**instance, "id": "n1", "type": "note", "dependent_resources": []}


def test_an_id_that_is_a_path_is_found(ground: Ground) -> None:
    found = ground.below.directory()
    shown = ground.call("GET", f"/protectables/directory/instances/{found['id']}")["instance"]
    assert shown["id"] == found["id"]
    assert ground.ask("GET", "/protectables/directory/instances//etc").status_code in (400, 403, 404)


def test_unknown_types_and_instances_are_refused(ground: Ground) -> None:
    for path in ("/protectables/moon", "/protectables/moon/instances", "/protectables/moon/instances/1"):
        assert "note" in ground.refused(400, "GET", path)["message"]
    ground.refused(404, "GET", "/protectables/note/instances/n9")
    ground.refused(404, "GET", "/protectables/note/instances", marker="n9")


def test_parameters_come_as_json_or_as_karbor_writes_them(ground: Ground) -> None:
    path = "/protectables/note/instances"
    for text in ("{}", "{'colour': 'red'}", '{"colour": "red"}'):
        answer = ground.ask("GET", path, parameters=text)
        assert answer.status_code == (200 if text == "{}" else 400), answer.text
    for wrong in ("[]", "{", "print(1)", "(" * 1000, "{1: 2}", "x" * 5000):
        fault = ground.refused(400, "GET", path, parameters=wrong)
        assert fault["errors"][0]["field"] == "parameters"
    ground.call("GET", path, type="note")
    ground.refused(400, "GET", path, type="directory")


def test_a_provider_shows_what_plans_and_restores_may_say_and_no_option_of_its_bank(ground: Ground) -> None:
    (one,) = ground.call("GET", "/providers")["providers"]
    assert ground.call("GET", f"/providers/{one['id']}")["provider"] == one
    schemas = one["extended_info_schema"]
    assert schemas.keys() == {"options_schema", "restore_schema", "saved_info_schema"}
    assert "excludes" in schemas["options_schema"]["directory"]["properties"]
    assert str(ground.below.data.path) not in json.dumps(one)
    ground.refused(404, "GET", f"/providers/{uuid.uuid4()}")
    ground.refused(400, "GET", "/providers/default")
    assert ground.call("GET", "/providers", name="other") == {"providers": []}
