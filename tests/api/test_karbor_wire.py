# SPDX-License-Identifier: Apache-2.0
"""Every exchange that Karbor's own client had with Karbor, had with Seawall instead.

``karbor_wire`` holds them, replayed in order; ids that Karbor gave out become those that Seawall gave out.
Status, keys and types of values must be those that the client was given then; more keys may be there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seawall.core.caller import Role
from seawall.core.records import Json
from tests.api.ground import Ground, content_of
from tests.api.test_checkpoints import record_of
from tests.catalogue.test_checkpoints import finish

WIRE = Path(__file__).parent / "karbor_wire"
# Its plan is deleted last, when nothing uses it any more.
LAST = "044-plan-delete.json"

PROJECT = "11111111111141118111111111111111"
PROVIDER = "b766f37c-d011-4026-8228-28730d734a3f"
VOLUME = "71bfe64a-e0b9-4a91-9e15-a7fc9ab31b14"


class Replay:
    """Speaks as Karbor's client did."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.known = {
            PROJECT: ground.project_id,
            PROVIDER: ground.provider_id,
            VOLUME: "n1",
            "OS::Cinder::Volume": "note",
        }

    def ours(self, value: Any) -> Any:
        text = json.dumps(value)
        for theirs, ours in self.known.items():
            text = text.replace(theirs, ours)
        return json.loads(text)

    def exchange(self, name: str, request: Json, response: Json) -> None:
        prefix = f"/v1/{PROJECT}"
        path = self.ours(request["path"].removeprefix(prefix))
        if request["method"] == "DELETE" and path.startswith("/plans/"):
            for run in self.ground.call("GET", "/runs", state="queued")["runs"]:
                self.ground.call("POST", f"/runs/{run['id']}/cancel")
        body = self.ours(request["body"])
        answer = self.ground.ask(request["method"], path, body, role=Role.ADMIN)
        assert answer.status_code == response["status"], f"{name}: {answer.text}"
        assert answer.headers["Content-Type"].startswith("application/json"), name
        theirs = self.ours(response["body"])
        if response["status"] >= 400:
            assert answer.json().keys() == theirs.keys(), name
            content_of(answer)
        elif theirs is None:
            assert answer.content == b"", name
        else:
            self.learn(request, response["body"], answer.json())
            assert_alike(theirs, answer.json(), name)

    def learn(self, request: Json, theirs: Json, ours: Json) -> None:
        """What a create was answered is what later requests speak of."""
        if request["method"] != "POST":
            return
        (theirs,), (made,) = theirs.values(), (ours[name] for name in theirs)
        self.known[theirs["id"]] = made["id"]
        if "protection_plan" in made:
            finish(self.ground.below, record_of(self.ground, made))


def assert_alike(theirs: Any, ours: Any, where: str) -> None:
    """The same keys and types; None stands for any type, and other resource types have other schemas."""
    if theirs is None or ours is None:
        return
    assert type(ours) is type(theirs), f"{where}: {ours!r} instead of {theirs!r}"
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            if key.startswith("OS::"):
                continue
            assert key in ours, f"{where}: {key} is missing"
            assert_alike(value, ours[key], f"{where}.{key}")
    elif isinstance(theirs, list) and theirs and ours:
        assert_alike(theirs[0], ours[0], f"{where}[0]")


def test_karbor_s_client_is_answered_as_karbor_answered_it(ground: Ground) -> None:
    ground.services.find_or_create("node", "seawall-protection", "1", 1)
    ground.clock.advance(0.5)
    replay = Replay(ground)
    names = sorted(path.name for path in WIRE.glob("*.json"))
    assert len(names) == 29
    for name in [*(one for one in names if one != LAST), LAST]:
        for exchange in json.loads((WIRE / name).read_text())["exchanges"]:
            replay.exchange(name, exchange["request"], exchange["response"])
