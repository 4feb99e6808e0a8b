# SPDX-License-Identifier: Apache-2.0
"""The catalogue does the same on both databases, also when many ask at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.core.errors import ConflictError, InUseError, NotFoundError
from seawall.core.listing import ListQuery
from seawall.db import audit
from seawall.db import repositories as repository_rows
from seawall.protection import repositories
from seawall.sdk.testing.clock import FakeClock
from tests.catalogue.ground import Ground
from tests.catalogue.test_checkpoints import ask, finish, runs
from tests.catalogue.test_plans import create, schedule
from tests.catalogue.test_restores import restore
from tests.support.databases import KINDS, opened


@pytest.fixture(params=KINDS)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    with opened(request.param, tmp_path, FakeClock()) as database:
        yield Ground(tmp_path, database)


def test_a_life_from_plan_to_restore(either: Ground) -> None:
    plan = create(either, either.directory(), either.sqlite(), parameters={"sqlite": {}})
    operation_id = schedule(either, plan)
    with pytest.raises(InUseError, match=operation_id):
        either.catalogue.delete_plan(either.caller, plan.id)
    changed = either.catalogue.update_plan(either.caller, plan.id, {"name": "new"})
    assert either.catalogue.list_plans(either.caller, ListQuery(filters={"name": "new"})).items == (changed,)
    one = finish(either, ask(either, plan, key="once"))
    assert ask(either, plan, key="once").id == one.id
    assert either.catalogue.pin_checkpoint(either.caller, one.provider_id, one.id).pinned
    made = restore(either, one, str(either.srv / "new"))
    assert either.catalogue.list_restores(either.caller, ListQuery()).items == (made,)
    assert len(runs(either)) == 2
    with pytest.raises(ConflictError):
        either.catalogue.delete_checkpoint(either.caller, one.provider_id, one.id)
    page = either.catalogue.list_checkpoints(either.caller, one.provider_id, ListQuery())
    assert page.items == (replace(one, pinned=True),)
    with pytest.raises(NotFoundError):
        either.catalogue.get_checkpoint(either.stranger, one.provider_id, one.id)
    assert len(either.database.read(lambda c: audit.newest(c, project_id=either.project_id))) == 5


def test_many_at_once_make_one_of_each(either: Ground) -> None:
    plan = create(either, either.directory())
    with ThreadPoolExecutor(8) as pool:
        checkpoints = set(pool.map(lambda _: ask(either, plan, key="once").id, range(24)))
        groups = set(
            pool.map(
                lambda _: (
                    repositories.ensure(
                        either.database,
                        either.install_key,
                        provider_id=plan.provider_id,
                        project_id=either.project_id,
                        group="cold",
                    ).id
                ),
                range(24),
            )
        )
    assert (len(checkpoints), len(groups), len(runs(either))) == (1, 1, 1)
    assert len(either.database.read(repository_rows.listed)) == 2


def test_an_acknowledged_kit_and_a_format_are_remembered(either: Ground) -> None:
    one = repositories.ensure(
        either.database, either.install_key, provider_id=either.provider.id, project_id=either.project_id
    )
    assert either.database.write("test", repository_rows.acknowledge) == [one.id]
    either.database.write("test", lambda tx: repository_rows.set_format_id(tx, one.id, "ab" * 32))
    either.database.write("test", lambda tx: repository_rows.set_maintained(tx, one.id))
    found = either.database.read(lambda c: repository_rows.get(c, one.id, project_id=None))
    assert (found.format_id, found.kit_acknowledged_at) == ("ab" * 32, either.clock.now())
    assert either.database.read(lambda c: repository_rows.maintained_at(c, one.id)) == either.clock.now()
    with pytest.raises(NotFoundError):
        either.database.write("test", lambda tx: repository_rows.set_maintained(tx, either.project_id))
