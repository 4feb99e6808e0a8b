# SPDX-License-Identifier: Apache-2.0
"""The built-in operations under the contract suite, and what each asks of the protection."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar

import pytest

from seawall.core.errors import BankError, CancelledError, RunError, SourceError
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.sdk.operation import CheckpointOutcome, ExpiryOutcome, Json, Operation
from seawall.sdk.testing.operation_suite import MemoryContext, OperationSuite, RecordingProtection

OPERATIONS = load_plugins(
    PluginKind(
        "seawall.operations",
        "operation_type",
        Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
        "seawall.operation_engine.operations",
    ),
    installed=lambda _: (),
)
PLAN = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a01"
PROVIDER = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a02"
THING = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a03"
BOTH: Json = {"plan_id": PLAN, "provider_id": PROVIDER}


def run(operation_type: str, definition: Json, context: MemoryContext) -> Json:
    answer = OPERATIONS.get(operation_type)().run(definition, context)
    assert not isinstance(answer, Awaitable)
    return dict(answer or {})


class TestProtect(OperationSuite):
    operation = OPERATIONS.get("protect")
    definitions = (BOTH, {**BOTH, "checkpoint_id": THING})
    refused = ({}, {"plan_id": PLAN}, {**BOTH, "plan_id": "one"}, {**BOTH, "keep_last": 3})


class TestRetentionProtect(OperationSuite):
    operation = OPERATIONS.get("retention_protect")
    definitions = (
        BOTH,
        {**BOTH, "max_backups": "2", "retention_duration": 14},
        {**BOTH, "keep_last": 7, "keep_within": "7d", "keep_yearly": "-1"},
    )
    refused = ({**BOTH, "keep_last": "many"}, {**BOTH, "keep_within": "a while"}, {**BOTH, "keep": 2})


class TestRetention(OperationSuite):
    operation = OPERATIONS.get("retention")
    definitions = ({**BOTH, "keep_daily": 7}, {**BOTH, "scheduled_operation_id": THING, "max_backups": "3"})
    refused = ({**BOTH, "keep_daily": 1.5}, {"provider_id": PROVIDER, "keep_daily": 1})


class TestRestore(OperationSuite):
    operation = OPERATIONS.get("restore")
    definitions = ({"restore_id": THING},)
    refused: ClassVar = ({}, {"restore_id": 3})


class TestDelete(OperationSuite):
    operation = OPERATIONS.get("delete")
    definitions = ({"checkpoint_id": THING},)
    refused: ClassVar = ({}, {"checkpoint_id": "x"})


class TestMaintain(OperationSuite):
    operation = OPERATIONS.get("maintain")
    definitions = ({"repository_id": THING},)
    refused: ClassVar = ({}, {"repository": THING})


def test_all_built_in_operations_load() -> None:
    assert OPERATIONS.faults == ()
    assert OPERATIONS.names() == (
        "delete",
        "maintain",
        "protect",
        "restore",
        "retention",
        "retention_protect",
    )


@pytest.mark.parametrize("name", ["restore", "delete", "maintain"])
def test_what_belongs_to_one_thing_cannot_be_scheduled(name: str) -> None:
    assert getattr(OPERATIONS.get(name), "schedulable", True) is False


def test_retention_follows_a_clean_protect_in_the_scope_of_its_operation() -> None:
    context = MemoryContext()
    result = run("retention_protect", {**BOTH, "max_backups": "2", "keep_within": "7d"}, context)
    scope: Json = {
        "plan_id": PLAN,
        "scheduled_operation_id": context.scheduled_operation_id,
        "rules": {"max_backups": "2", "keep_within": "7d"},
    }
    assert context.protection.calls == [("protect", BOTH), ("expire", scope)]
    assert result["status"] == "available"
    assert result["retention"]["kept"] == 1


def test_retention_does_not_follow_a_protect_with_warnings() -> None:
    """I6: a copy that is not whole is no reason to delete one that is."""
    outcome = CheckpointOutcome(THING, "available_with_warnings", "5" * 64, 1, 1, 1, ("unreadable",))
    context = MemoryContext(protection=RecordingProtection(outcome=outcome))
    result = run("retention_protect", {**BOTH, "max_backups": 2}, context)
    assert [name for name, _ in context.protection.calls] == ["protect"]
    assert "available_with_warnings" in result["retention"]["held_because"]


def test_retention_does_not_follow_a_failed_protect() -> None:
    context = MemoryContext()
    context.protection.failures["protect"] = SourceError("the disk is gone")
    with pytest.raises(SourceError):
        run("retention_protect", {**BOTH, "max_backups": 2}, context)
    assert [name for name, _ in context.protection.calls] == ["protect"]


def test_without_rules_nothing_is_asked_to_expire() -> None:
    context = MemoryContext()
    assert "retention" not in run("retention_protect", dict(BOTH), context)
    assert [name for name, _ in context.protection.calls] == ["protect"]


def test_a_delete_that_fails_does_not_make_a_good_backup_a_failed_run() -> None:
    expiry = ExpiryOutcome(kept=1, deleted=(), failed={THING: "the bank is away"})
    context = MemoryContext(protection=RecordingProtection(expiry=expiry))
    result = run("retention_protect", {**BOTH, "max_backups": 1}, context)
    assert result["retention"]["failed"] == {THING: "the bank is away"}
    assert context.lines == [("warning", f"checkpoint {THING} was not deleted: the bank is away")]


def test_a_retention_run_whose_deletes_fail_has_failed_and_says_which() -> None:
    expiry = ExpiryOutcome(kept=1, deleted=("a",), failed={THING: "the bank is away"})
    context = MemoryContext(protection=RecordingProtection(expiry=expiry))
    with pytest.raises(RunError, match=f"1 of 2 expired checkpoints .*{THING}: the bank is away"):
        run("retention", {**BOTH, "max_backups": 1}, context)


def test_a_retention_run_may_name_the_operation_whose_checkpoints_are_meant() -> None:
    context = MemoryContext()
    run("retention", {**BOTH, "scheduled_operation_id": THING, "keep_last": 1}, context)
    assert context.protection.calls == [
        ("expire", {"plan_id": PLAN, "scheduled_operation_id": THING, "rules": {"keep_last": 1}})
    ]


def test_a_held_scope_is_said_in_the_log() -> None:
    expiry = ExpiryOutcome(kept=3, deleted=(), held_because="the newest protect failed")
    context = MemoryContext(protection=RecordingProtection(expiry=expiry))
    assert run("retention", {**BOTH, "keep_last": 1}, context)["held_because"] == "the newest protect failed"
    assert context.lines == [("warning", "nothing is deleted: the newest protect failed")]


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("restore", {"restore_id": THING}),
        ("delete", {"checkpoint_id": THING}),
        ("maintain", {"repository_id": THING}),
    ],
)
def test_an_error_of_the_protection_is_the_runs_error(name: str, definition: Json) -> None:
    context = MemoryContext()
    context.protection.failures[name] = BankError("the bank is away")
    with pytest.raises(BankError):
        run(name, definition, context)
    assert context.protection.calls == [(name, definition)]


def test_a_cancelled_run_asks_for_nothing() -> None:
    context = MemoryContext(is_cancelled=True)
    with pytest.raises(CancelledError):
        run("protect", dict(BOTH), context)
    assert context.protection.calls == []
