# SPDX-License-Identifier: Apache-2.0
"""The process: first start, one of a kind, taken port, stop, secrets."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from demo.service import SEAWALL, Seawall, wait_until
from tests.e2e.conftest import data_folder

pytestmark = pytest.mark.slow


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SEAWALL), *arguments],
        env={**os.environ, "SEAWALL_DATA_DIR": str(data), "COLUMNS": "110"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_first_start_makes_all_it_needs_readable_by_its_owner_alone(seawall: Seawall) -> None:
    for name in ("install-key", "admin-token", "recovery-kit.txt"):
        assert stat.S_IMODE((seawall.data / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((seawall.data / "bank").stat().st_mode) == 0o700
    providers = seawall.call("GET", "/providers")["providers"]
    assert [one["name"] for one in providers] == ["default"]


def test_the_three_services_are_up_with_version_and_heartbeat(seawall: Seawall) -> None:
    services = seawall.call("GET", "/services")["services"]
    assert {one["binary"] for one in services} == {
        "seawall-api",
        "seawall-operationengine",
        "seawall-protection",
    }
    assert {one["state"] for one in services} == {"up"}
    shown = run(seawall.data, "service", "list").stdout
    assert "seawall-protection" in shown
    assert "up" in shown


def test_a_second_service_on_the_same_folder_is_refused(seawall: Seawall) -> None:
    for kind in ("serve", "operationengine", "protection"):
        refused = run(seawall.data, kind)
        assert refused.returncode == 6, refused.stderr
        assert "already running" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_taken_port_gets_a_clear_word(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run(data, "serve", "--port", str(port))
    assert refused.returncode == 6
    assert f"port {port}" in refused.stderr
    assert "--port" in refused.stderr


def test_a_wrong_setting_names_field_value_and_rule(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", "workers: many\nwrokers: 3\n")
    refused = run(data, "serve")
    assert refused.returncode == 2
    for word in ("workers", "many", "wrokers", "seawall.yaml"):
        assert word in refused.stderr


def test_sigterm_ends_in_order_and_the_ids_stay(seawall: Seawall) -> None:
    before = {one["binary"]: one["id"] for one in seawall.call("GET", "/services")["services"]}
    assert seawall.stop() < 10
    seawall.start()
    assert {one["binary"]: one["id"] for one in seawall.call("GET", "/services")["services"]} == before


def test_the_services_run_alone_on_one_data_folder(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    log = (tmp_path / "log").open("ab")
    started = [
        subprocess.Popen(
            [str(SEAWALL), kind, *options],
            env={**os.environ, "SEAWALL_DATA_DIR": str(data)},
            stdout=log,
            stderr=log,
        )
        for kind, options in (("api", ["--port", "0"]), ("operationengine", []), ("protection", []))
    ]
    try:

        def all_up() -> bool | None:
            done = run(data, "service", "list", "-o", "json")
            return True if done.returncode == 0 and done.stdout.count('"up"') == 3 else None

        wait_until("the three services", all_up, timeout_s=40)
        source = tmp_path / "source"
        source.mkdir()
        (source / "a").write_text("alpha")
        made = run(data, "protect", str(source), "--every", "day", "--at", "02:00", "--keep", "3")
        assert made.returncode == 0, made.stderr
        done = run(data, "checkpoint", "create", "--plan", "latest", "--wait")
        assert done.returncode == 0, done.stderr
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(timeout=15) for process in started]
        log.close()
    assert codes == [0, 0, 0], (tmp_path / "log").read_text()


def test_no_secret_stands_in_a_log_an_answer_or_a_command_line(seawall: Seawall, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("alpha")
    assert run(seawall.data, "protect", str(source), "--every", "day").returncode == 0
    made = run(seawall.data, "checkpoint", "create", "--plan", "latest", "--wait", "-o", "json")
    assert made.returncode == 0, made.stderr
    key = run(seawall.data, "recovery-kit", "key").stdout.strip()
    token = (seawall.data / "admin-token").read_text().strip()
    install_key = (seawall.data / "install-key").read_text().strip()
    said = Path(f"{seawall.data}.log").read_text() + made.stdout + made.stderr
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said += (entry / "cmdline").read_text() + (entry / "environ").read_text(errors="replace")
        except OSError:
            continue
    for secret in (key, token, install_key):
        assert len(secret) > 20
        assert secret not in said
