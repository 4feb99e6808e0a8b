# SPDX-License-Identifier: Apache-2.0
"""Files of checkpoints through HTTP and the command line, on a real service with real movers."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from demo.service import SEAWALL, Json, Seawall, wait_until
from tests.e2e.test_job import make_plan, make_source, provider_of

pytestmark = pytest.mark.slow

LARGE_BYTES = 48 * 1024 * 1024


class Stored:
    """A running service with one checkpoint of a folder."""

    def __init__(self, seawall: Seawall, source: Path) -> None:
        self.seawall = seawall
        self.source = source
        plan = make_plan(seawall, ("directory", source))
        path = f"/providers/{provider_of(seawall)}/checkpoints"
        made = seawall.call("POST", path, {"checkpoint": {"plan_id": plan["id"]}})["checkpoint"]
        self.id = made["id"]
        self.path = f"{path}/{self.id}"

        def stored() -> Json | None:
            found: Json = seawall.call("GET", self.path)["checkpoint"]
            return None if found["status"] == "protecting" else found

        assert wait_until("the checkpoint", stored)["status"] == "available"
        self.url = (seawall.data / "api-url").read_text().strip()
        token = (seawall.data / "admin-token").read_text().strip()
        self.http = httpx.Client(base_url=self.url, headers={"X-Auth-Token": token}, timeout=60)

    def get(self, what: str, query: str) -> httpx.Response:
        return self.http.get(f"{self.path}/{what}?{query}")

    def type(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(SEAWALL), "checkpoint", *words],
            env={**os.environ, "SEAWALL_DATA_DIR": str(self.seawall.data)},
            capture_output=True,
            timeout=120,
            check=False,
        )

    def movers(self) -> list[int]:
        """The processes of movers that live."""
        found = []
        for one in Path("/proc").iterdir():
            try:
                words = (one / "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if b"seawall.protection.movers.main" in words and os.fsencode(self.seawall.data) in words:
                found.append(int(one.name))
        return found


@pytest.fixture
def stored(seawall: Seawall, tmp_path: Path) -> Iterator[Stored]:
    source = make_source(tmp_path)
    (source / "large").write_bytes(os.urandom(LARGE_BYTES))
    made = Stored(seawall, source)
    yield made
    made.http.close()


def test_a_file_or_folder_comes_as_an_archive(stored: Stored) -> None:
    answer = stored.get("download", f"path={quote(str(stored.source / 'inner'))}&format=tar")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"inner.tar\"; filename*=UTF-8''inner.tar"
    )
    assert answer.headers["transfer-encoding"] == "chunked"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert archive.getnames() == ["inner", "inner/b", "inner/empty"]
        assert archive.extractfile("inner/b").read() == (stored.source / "inner" / "b").read_bytes()  # type: ignore[union-attr]  # a file
    zipped = stored.get("download", f"path={quote(str(stored.source / 'a'))}&format=zip")
    assert zipped.headers["content-type"] == "application/zip"
    assert zipfile.ZipFile(io.BytesIO(zipped.content)).read("a") == b"alpha"


def test_names_may_be_any_bytes(stored: Stored) -> None:
    listed = stored.get("files", f"path={quote(str(stored.source))}").json()["files"]
    (odd,) = [one for one in listed if one["name"].startswith("odd")]
    assert odd["name"] == "odd\nname \\xff"
    answer = stored.get("download", f"path={odd['quoted_path']}")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert archive.getnames() == ["odd\nname \udcff"]
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"odd_name__.tar\"; filename*=UTF-8''odd_name%20_.tar"
    )


def test_what_is_wrong_is_said_as_json_before_the_first_byte(stored: Stored) -> None:
    for query, status in (
        ("path=/etc/shadow", 404),
        ("path=directory-source/source/missing", 404),
        ("path=../etc", 400),
        ("format=rar", 400),
        ("path=a%00b", 400),
    ):
        answer = stored.get("download", query)
        assert answer.status_code == status, answer.text
        (fault,) = answer.json().values()
        assert fault["request_id"] == answer.headers["x-openstack-request-id"]


def test_a_stream_that_breaks_off_is_no_whole_answer(stored: Stored) -> None:
    path = quote(str(stored.source))
    with (
        stored.http.stream("GET", f"{stored.path}/download?path={path}") as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        next(pieces)
        for pid in stored.movers():
            os.kill(pid, signal.SIGKILL)
        for _ in pieces:
            pass
    whole = stored.get("download", f"path={path}")  # the next one has a mover again
    assert len(whole.content) > LARGE_BYTES


def test_a_client_that_goes_away_leaves_nothing_that_holds_the_checkpoint(stored: Stored) -> None:
    with stored.http.stream("GET", f"{stored.path}/download") as answer:
        next(answer.iter_raw())
        held = stored.http.delete(stored.path)
        assert held.status_code == 424
        assert "download:" in held.text

    def deleted() -> bool | None:
        return True if stored.http.delete(stored.path).status_code == 200 else None

    wait_until("the reader's lease to go", deleted, timeout_s=10)


def test_the_command_line_lists_and_downloads(stored: Stored, tmp_path: Path) -> None:
    listed = stored.type("files", "latest", "--path", str(stored.source))
    assert listed.returncode == 0, listed.stderr
    assert b"inner" in listed.stdout
    out = tmp_path / "inner.zip"
    words = ("download", "latest", "--path", str(stored.source / "inner"), "--format", "zip", "-O", str(out))
    done = stored.type(*words)
    assert done.returncode == 0, done.stderr
    assert zipfile.ZipFile(out).testzip() is None
    assert stored.type(*words).returncode == 5  # it is there already
    piped = stored.type("download", stored.id, "--path", str(stored.source / "odd\nname \udcff"))
    assert piped.returncode == 0, piped.stderr
    with tarfile.open(fileobj=io.BytesIO(piped.stdout)) as archive:
        assert archive.getnames() == ["odd\nname \udcff"]
    refused = stored.type("download", stored.id, "--path", "/missing", "-O", str(tmp_path / "none.tar"))
    assert refused.returncode == 3
    assert not (tmp_path / "none.tar").exists()


def test_a_download_that_breaks_off_leaves_no_file(stored: Stored, tmp_path: Path) -> None:
    _flip(stored.seawall.data)
    out = tmp_path / "all.tar"
    done = stored.type("download", "latest", "-O", str(out))
    assert done.returncode == 7, done.stderr
    assert b"broke off" in done.stderr
    assert [one.name for one in tmp_path.iterdir() if "all.tar" in one.name] == []


def _flip(data: Path) -> None:
    """Flip a byte in every pack of the large file."""
    packs = [one for one in data.rglob("bank/*/data/*/*") if one.stat().st_size > 4_000_000]
    assert packs
    for one in packs:
        with one.open("r+b") as file:
            file.seek(3_000_000)
            old = file.read(1)
            file.seek(3_000_000)
            file.write(bytes((old[0] ^ 1,)))
