# SPDX-License-Identifier: Apache-2.0
"""The real restic finds a repository in a bucket by the address and the key file of our bank."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seawall.protection.banks.s3 import S3Bank
from seawall.protection.movers.restic import Restic
from seawall.repository import Repository
from seawall.sdk.bank import SubBank
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_restic_stores_into_our_bucket_and_writes_it_back(s3_server: S3Server, tmp_path: Path) -> None:
    if shutil.which("restic") is None:
        if "restic" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail("restic is listed in TEST_SERVERS and not installed")
        pytest.skip("restic is not installed")
    bank = S3Bank(**s3_server.options())
    place = SubBank(bank, "repository")
    Repository.init(place, passwords=["word"], now=NOW)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(100_000))
    restic = Restic(bank.restic_address("repository"), "word")
    done = restic.backup(source, excludes=(), options=(), tags=("t",), parent=None, progress=None)
    assert (done.items, done.read_bytes, done.faults) == (1, 100_000, [])
    opened = Repository.open(place, password="word", now=NOW)
    (found,) = opened.snapshots(["t"])
    node = opened.find(found.tree, "file")
    assert b"".join(opened.read_file(node)) == (source / "file").read_bytes()
    assert restic.restore(found.id, tmp_path / "back", ()) == []
    assert (tmp_path / "back" / "file").read_bytes() == (source / "file").read_bytes()
    bank.close()
