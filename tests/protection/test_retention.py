# SPDX-License-Identifier: Apache-2.0
"""Retention over a real bank, whatever the rules: what is relied upon stays, and it is there (I6)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from seawall.core.records import Checkpoint, Plan
from seawall.db import checkpoints, tables
from seawall.sdk.testing.clock import FakeClock
from tests.protection.conftest import Side, open_side

HOUR_S = 3600.0
ROUNDS = 4


@dataclass
class Scope:
    """One plan whose checkpoints come and go."""

    side: Side
    clock: FakeClock
    plan: Plan

    def rows(self) -> list[Checkpoint]:
        return self.side.database.read(
            lambda c: checkpoints.in_scope(c, plan_id=self.plan.id, scheduled_operation_id=None)
        )

    def grow(self, chance: random.Random) -> None:
        """A few more checkpoints: clean ones, ones with warnings, some pinned, some verified."""
        for _ in range(chance.randint(2, 4)):
            self.clock.advance(HOUR_S * chance.choice((0.2, 1, 7, 30, 400)))
            made = self.side.protect(self.plan)
            draw = chance.random()
            if draw < 0.3:
                self._change("test.warn", made.id, status="available_with_warnings")
            elif draw < 0.5:
                self._change("test.verify", made.id, verified_at=self.clock.now())
            elif draw < 0.6:
                self._change("test.pin", made.id, pinned=True)

    def _change(self, name: str, checkpoint_id: str, **values: object) -> None:
        table = tables.checkpoints
        self.side.database.write(
            name,
            lambda tx: tx.connection.execute(
                table.update().where(table.c.id == checkpoint_id).values(**values)
            ),
        )


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[Scope]:
    clock = FakeClock()
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    with open_side(tmp_path, clock) as side:
        yield Scope(side, clock, side.plan(("directory", source)))


def some_rules(chance: random.Random) -> dict[str, object]:
    """Rules as users give them, numbers and Karbor's text; 0, and below, is off."""
    words = ("max_backups", "keep_last", "keep_hourly", "keep_daily", "keep_weekly", "retention_duration")
    rules: dict[str, object] = {
        word: chance.choice((chance.randint(-1, 3), str(chance.randint(0, 3))))
        for word in chance.sample(words, chance.randint(0, 3))
    }
    if chance.random() < 0.3:
        rules["keep_within"] = f"{chance.randint(1, 30)}d"
    return rules


@pytest.mark.parametrize("seed", range(4))
def test_no_rule_ever_removes_what_is_relied_upon(scope: Scope, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        scope.grow(chance)
        before, rules = scope.rows(), some_rules(chance)
        done = scope.side.engine.expire(
            scope.side.context(), plan_id=scope.plan.id, scheduled_operation_id=None, rules=rules
        )
        after = scope.rows()
        kept = {one.id for one in after}
        assert done.failed == {}, rules
        assert done.held_because is None
        assert {one.id for one in before} == kept | set(done.deleted)
        assert done.kept == len(after)
        # The newest clean one, the newest verified one, and every pinned one stay, whatever the rules say.
        clean = [one.id for one in before if one.status == "available"]
        verified = [one.id for one in before if one.verified_at is not None]
        pinned = [one.id for one in before if one.pinned]
        assert {*clean[:1], *verified[:1], *pinned} <= kept, rules
        if not any(int(str(value)) > 0 for word, value in rules.items() if word != "keep_within"):
            assert "keep_within" in rules or done.deleted == ()
        # Rows and bank say the same.
        there = {path.name for path in scope.side.snapshots()}
        assert there == {one.snapshot_id for one in after}


def test_a_scope_whose_newest_protect_failed_loses_nothing(scope: Scope) -> None:
    made = []
    for _ in range(3):
        scope.clock.advance(HOUR_S)
        made.append(scope.side.protect(scope.plan))
    scope.clock.advance(HOUR_S)
    new = checkpoints.NewCheckpoint(
        project_id=scope.side.project_id,
        provider_id=scope.side.provider_id,
        plan_id=scope.plan.id,
        plan_name="p",
        repository_id=made[0].repository_id,
        resources=scope.plan.resources,
        run_id=None,
    )
    failed = scope.side.database.write("test.insert", lambda tx: checkpoints.insert(tx, new))
    scope.side.database.write("test.fail", lambda tx: checkpoints.fail(tx, failed.id, "no"))
    done = scope.side.engine.expire(
        scope.side.context(), plan_id=scope.plan.id, scheduled_operation_id=None, rules={"max_backups": 1}
    )
    assert done.deleted == ()
    assert failed.id in str(done.held_because)
    assert len(scope.side.snapshots()) == 3
