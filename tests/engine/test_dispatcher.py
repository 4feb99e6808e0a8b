# SPDX-License-Identifier: Apache-2.0
"""Runs are carried out under a lease and end once, whatever happens to their process (I3, I4, M8-M10)."""

from __future__ import annotations

from tests.engine.ground import Ground


def test_what_is_due_is_carried_out_and_its_outcome_recorded(both: Ground) -> None:
    both.call("answer", lambda definition, context: {"answer": 42})
    both.operation(both.trigger(), call="answer")
    both.dispatcher()
    both.go_to(60)
    both.claim_all()
    both.wakeup.notify()
    both.until(lambda: both.states() == ["success"])
    run = both.runs()[0]
    assert run.result == {"answer": 42}
    assert run.expected_at == both.at(60)
    assert (run.attempt, run.fence, run.lease_until_at) == (1, 1, None)
