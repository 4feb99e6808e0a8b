# SPDX-License-Identifier: Apache-2.0
"""Event triggers from the command line to the run, over a real service."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Terminal

pytestmark = pytest.mark.slow


def _fire(terminal: Terminal, trigger_id: str, secret: str, *, timestamp: str) -> httpx.Response:
    project = (terminal.data / "api-url").read_text().strip()
    signed = hmac.digest(secret.encode(), f"{timestamp}\nonce\n{{}}".encode(), hashlib.sha256).hex()
    headers = {
        "Seawall-Timestamp": timestamp,
        "Seawall-Signature": f"sha256={signed}",
        "Idempotency-Key": "once",
    }
    return httpx.post(f"{project}/triggers/{trigger_id}/fire", content=b"{}", headers=headers)


def _now(folder: Path) -> str:
    """The time as the machine has it, by the stamp of a new file."""
    marker = folder / "now"
    marker.write_bytes(b"")
    return str(int(os.stat(marker).st_mtime))


def test_event_triggers_are_made_fired_and_rotated(terminal: Terminal, tmp_path: Path) -> None:
    made = terminal.type("trigger", "create", "hook", "--webhook", "-o", "json")
    assert "shown this once" in made.err
    hook = terminal.json("trigger", "rotate-secret", "hook")
    assert "secret" not in terminal.json("trigger", "show", "hook")
    first = _fire(terminal, hook["id"], hook["secret"], timestamp=_now(tmp_path))
    assert (first.status_code, first.json()) == (202, {"fired": True, "runs": 0})
    assert _fire(terminal, hook["id"], hook["secret"], timestamp=_now(tmp_path)).json()["fired"] is False
    assert _fire(terminal, hook["id"], "whs_other", timestamp=_now(tmp_path)).status_code == 401
    message = terminal.json(
        "trigger", "create", "message", "--amqp", "host.#", "--filter", "size=3", "--filter", "name=x"
    )
    assert message["properties"]["filter"] == {"size": 3, "name": "x"}
    listed = terminal.run("trigger", "list")
    assert "webhook" in listed
    assert "amqp host.#" in listed
    refused = terminal.type("trigger", "create", "both", "--webhook", "--amqp", "a")
    assert refused.code == 2
    assert "exactly one" in refused.err


def test_the_doctor_says_that_there_is_no_broker(terminal: Terminal) -> None:
    assert "not configured" in terminal.type("doctor").out
