# SPDX-License-Identifier: Apache-2.0
"""A real S3 server for tests: Ceph's radosgw, or any other that two variables name.

``SEAWALL_TEST_S3`` (its address) and ``SEAWALL_TEST_S3_KEYS`` (a key file) name a server of one's own.
Without them the one at 127.0.0.1:36480 is used; with ``ceph`` among TEST_SERVERS it is started when it does
not answer (and left running: ``ceph.sh stop`` ends it), and one that cannot be had is a failure. Otherwise
the tests are skipped, with the reason.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from seawall.protection.banks._s3_signing import signed_address
from seawall.runtime.clock import SystemClock

_PORT: Final = 36480
_SCRIPT: Final = Path(__file__).parents[3] / "shared" / "tools" / "ceph" / "ceph.sh"


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where it is, what opens it, and an empty bucket of this process."""

    endpoint: str
    key_file: Path
    bucket: str

    def options(self, **more: Any) -> dict[str, Any]:
        """Options of a bank below a prefix that nobody else has."""
        return {
            "endpoint": self.endpoint,
            "bucket": self.bucket,
            "key_file": str(self.key_file),
            "allow_http": True,
            "prefix": uuid.uuid4().hex,
            **more,
        }

    def make_bucket(self, name: str, *, object_lock: bool = False) -> str:
        """A bucket of this name."""
        access, secret = keys_in(self.key_file)
        address = signed_address(
            "PUT",
            f"{self.endpoint}/{name}",
            query={},
            region="us-east-1",
            access_key_id=access,
            secret_access_key=secret,
            token=None,
            at=SystemClock().now().strftime("%Y%m%dT%H%M%SZ"),
        )
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if object_lock else {}
        httpx.put(address, headers=headers).raise_for_status()
        return name


def keys_in(path: Path) -> tuple[str, str]:
    """Both keys of a key file."""
    lines = dict(line.split(" = ") for line in path.read_text().splitlines() if " = " in line)
    return lines["aws_access_key_id"], lines["aws_secret_access_key"]


def write_keys(path: Path, access: str, secret: str) -> Path:
    """A key file closed to others."""
    path.touch(mode=0o600)
    path.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    return path


def require_s3(folder: Path) -> S3Server:
    """The server; ``folder`` keeps the key file of this process."""
    endpoint, key_file = _server(folder)
    server = S3Server(endpoint, key_file, f"seawall-{uuid.uuid4().hex[:20]}")
    server.make_bucket(server.bucket)
    return server


def _server(folder: Path) -> tuple[str, Path]:
    if own := os.environ.get("SEAWALL_TEST_S3"):
        return own, Path(os.environ["SEAWALL_TEST_S3_KEYS"])
    reason = _missing()
    if reason is not None:
        if "ceph" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    made = subprocess.run(
        [str(_SCRIPT), "user", f"test-{uuid.uuid4().hex[:12]}"], capture_output=True, text=True, check=True
    )
    access, secret = made.stdout.split()
    return f"http://127.0.0.1:{_PORT}", write_keys(folder / "s3.keys", access, secret)


@cache
def _missing() -> str | None:
    """Why there is no server; it is started when it must be there."""
    if not _SCRIPT.exists():
        return f"no S3 server for tests: there is no {_SCRIPT}"
    if _answers():
        return None
    if "ceph" not in os.environ.get("TEST_SERVERS", "").split(","):
        return f"no S3 server for tests: nothing answers at 127.0.0.1:{_PORT}"
    with open("/tmp/seawall-test-ceph.lock", "w") as lock:  # one process starts it, the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers():
            started = subprocess.run([str(_SCRIPT), "start"], capture_output=True, text=True, check=False)
            if started.returncode:
                return f"no S3 server for tests: {started.stdout}{started.stderr}"
    return None


def _answers() -> bool:
    try:
        socket.create_connection(("127.0.0.1", _PORT), timeout=5).close()
    except OSError:
        return False
    return True
