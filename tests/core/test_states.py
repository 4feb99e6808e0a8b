# SPDX-License-Identifier: Apache-2.0
"""The state machines: closed, without dead ends, and written down as they are."""

from __future__ import annotations

import itertools

import pytest

from seawall.core.errors import StateError
from seawall.core.states import (
    CHECKPOINT,
    LIVE_RUN_STATES,
    MACHINES,
    RESTORABLE,
    RESTORE,
    RUN,
    RUNNING_STATES,
    CheckpointStatus,
    Machine,
    RestoreStatus,
    RunState,
    as_markdown,
    check_move,
)

OWN_STATES = {RUN.name: RunState, CHECKPOINT.name: CheckpointStatus, RESTORE.name: RestoreStatus}
each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@each_machine
def test_a_machine_has_exactly_the_states_of_its_enum(machine: Machine) -> None:
    assert set(machine.states()) == {str(one) for one in OWN_STATES[machine.name]}


@each_machine
def test_every_state_is_reached_from_a_first_one_and_leads_to_an_end(machine: Machine) -> None:
    reached = set(machine.first)
    ending = set(machine.ends())
    for _ in machine.states():
        reached |= {after for before, after in machine.moves if before in reached}
        ending |= {before for before, after in machine.moves if after in ending}
    assert reached == ending == set(machine.states())


@each_machine
def test_every_move_that_is_not_listed_is_refused_by_name(machine: Machine) -> None:
    for before, after in itertools.product(machine.states(), repeat=2):
        if (before, after) in machine.moves:
            check_move(machine, before, after)
        else:
            with pytest.raises(StateError, match=f"{before} cannot become {after}"):
                check_move(machine, before, after)


@each_machine
def test_every_move_says_why(machine: Machine) -> None:
    assert all(why.strip() for why in machine.moves.values())


def test_ended_runs_never_change() -> None:
    """I1: only live states are ever left."""
    assert {before for before, _ in RUN.moves} == {str(one) for one in LIVE_RUN_STATES}


def test_a_run_is_cancelling_until_its_work_has_ended() -> None:
    assert RUN.is_allowed("in_progress", "cancelling")
    assert not RUN.is_allowed("cancelling", "in_progress")
    assert set(RUNNING_STATES) < set(LIVE_RUN_STATES)


def test_what_can_be_restored_is_left_only_for_deleting_or_error() -> None:
    for status in RESTORABLE:
        assert {after for before, after in CHECKPOINT.moves if before == status} == {"deleting", "error"}


def test_the_only_end_of_a_checkpoint_is_deleted() -> None:
    assert CHECKPOINT.ends() == ("deleted",)


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(StateError):
        check_move(RESTORE, "paused", "success")


def test_the_page_names_every_state_and_move() -> None:
    page = as_markdown()
    for machine in MACHINES:
        for (before, after), why in machine.moves.items():
            assert f"| {before} | {after} | {why} |" in page
