# SPDX-License-Identifier: Apache-2.0
"""Files of checkpoints: who may see them, and what is refused. Their bytes are the business of tests/e2e."""

from __future__ import annotations

import uuid
from urllib.parse import unquote

import pytest

from seawall.api.streams import disposition
from seawall.core.caller import Role
from tests.api.ground import Ground
from tests.api.test_checkpoints import record_of
from tests.catalogue.test_checkpoints import finish


def finished(ground: Ground) -> str:
    made = ground.checkpoint()
    finish(ground.below, record_of(ground, made))
    return f"{ground.checkpoints}/{made['id']}"


def test_only_who_may_restore_sees_files(ground: Ground) -> None:
    path = finished(ground)
    for role in (Role.VIEWER, Role.AUDITOR):
        for what in ("files", "download"):
            ground.refused(403, "GET", f"{path}/{what}", role=role)
    for role in (Role.RESTORER, Role.OPERATOR, Role.ADMIN):
        assert ground.call("GET", f"{path}/files", role=role) == {"files": []}


def test_another_project_finds_nothing(ground: Ground) -> None:
    path = finished(ground)
    for what in ("files", "download"):
        answer = ground.http.get(
            f"/v1/{ground.below.other_id}{path}/{what}", headers={"X-Auth-Token": ground.stranger}
        )
        assert answer.status_code == 404


def test_what_cannot_be_given_out_is_refused(ground: Ground) -> None:
    path = finished(ground)
    protecting = f"{ground.checkpoints}/{ground.checkpoint()['id']}"
    ground.refused(409, "GET", f"{protecting}/files")
    ground.refused(409, "GET", f"{protecting}/download")
    ground.refused(404, "GET", f"{ground.checkpoints}/{uuid.uuid4()}/download")
    ground.refused(400, "GET", f"{ground.checkpoints}/nonsense/download")
    ground.refused(404, "GET", f"{path}/download?path=/somewhere")
    for query in ("path=a/../b", "path=a%00b", "format=rar"):
        fault = ground.refused(400, "GET", f"{path}/download?{query}")
        assert fault["errors"][0]["field"] == query.partition("=")[0]
    for query in ("limit=0", "colour=red", "path=.."):
        ground.refused(400, "GET", f"{path}/files?{query}")


def test_a_bank_without_the_snapshot_is_said_and_holds_nothing(ground: Ground) -> None:
    path = finished(ground)
    resource = record_of(ground, ground.call("GET", path)["checkpoint"]).resources[0]
    fault = ground.refused(503, "GET", f"{path}/download")
    assert resource["id"] not in fault["message"]
    assert fault["error_code"] == "bank_object_missing"
    ground.call("DELETE", path)


@pytest.mark.parametrize(
    ("name", "plain", "exact"),
    [
        ("report.tar", "report.tar", "report.tar"),
        ("a b.zip", "a_b.zip", "a b.zip"),
        ("übung.tar", "_bung.tar", "übung.tar"),
        ('x";\r\nSet-Cookie: a.tar', "x____Set-Cookie__a.tar", "x_;__Set-Cookie_ a.tar"),
        ("../..\\up.tar", "_.._up.tar", "_.._up.tar"),
        ("\udcff.tar", "_.tar", "_.tar"),
        ("..tar", "files.tar", "files.tar"),
        ("n" * 400 + ".tar", "n" * 150 + ".tar", "n" * 150 + ".tar"),
    ],
)
def test_the_name_of_an_archive_is_one_harmless_file_name(name: str, plain: str, exact: str) -> None:
    found = disposition(name)
    assert found.isascii()
    assert found.isprintable()
    start, _, rest = found.partition("; filename*=UTF-8''")
    assert start == f'attachment; filename="{plain}"'
    assert unquote(rest) == exact
