# SPDX-License-Identifier: Apache-2.0
"""The power is cut at every named failpoint of a working installation; afterwards the invariants hold.

Service and movers die together (SIGKILL of the process group). The installation then starts again, already
armed for the next cut, finishes what was cut, and is looked at: damage that one cut leaves behind would show
there or in a later round. One that is cut while it still mends is looked at after the next start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.acts import act_for
from tests.crash.elsewhere import ELSEWHERE
from tests.crash.ground import MOST_CUTS, Ground, PowerCutError
from tests.crash.invariants import Invariants
from tests.support.failpoint_names import failpoint_names

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHARDS = 4
NAMES = sorted(name for name in failpoint_names() if name not in ELSEWHERE)
# How long the loops of a service that has nothing else to do may take to come to a failpoint.
PATIENCE_S = 5


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def is_cut_at(ground: Ground, invariants: Invariants, name: str) -> bool:
    """Work until the power is cut at ``name``; whether it was reached."""
    if name.startswith("engine.quarantine"):
        ground.spoil_trigger()
    try:
        if not ground.start(name):
            return True
        invariants.check()
        act_for(name)(ground)
        if name.startswith(("services.stop", "runs.hand_back")):
            return not ground.stop()
        return ground.is_cut_within(PATIENCE_S)
    except PowerCutError:
        return True


@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_invariants_hold_after_a_power_cut_anywhere(ground: Ground, shard: int) -> None:
    invariants = Invariants(ground)
    assert ground.start()
    ground.prepare()
    invariants.check()
    unreached = []
    for name in NAMES[shard::SHARDS]:
        ground.kill()
        try:
            if ground.cuts >= MOST_CUTS:
                assert ground.start()
                invariants.check()
                ground.kill()
            if not is_cut_at(ground, invariants, name):
                unreached.append(name)
        except Exception as error:
            error.add_note(f"armed for {name}, {ground.cuts} cuts after all was well; log: {ground.log}")
            raise
    ground.kill()
    assert ground.start()
    invariants.check()
    invariants.check_whole()
    assert ground.stop()
    assert unreached == [], "no cut came at these: pass them in an act, or name their test in ELSEWHERE"
