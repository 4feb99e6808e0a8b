# SPDX-License-Identifier: Apache-2.0
"""The contract suite of operations, and a context and a protection that record what they are asked.

class TestMyOperation(OperationSuite):
    operation = MyOperation
    definitions = ({"path": "/tmp/card"},)
    refused = ({}, {"path": 3})
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import uuid4

import orjson
from jsonschema import Draft202012Validator

from seawall.core.errors import CancelledError, SeawallError
from seawall.sdk.clock import Clock
from seawall.sdk.operation import CheckpointOutcome, ExpiryOutcome, Json, Operation, OperationContext
from seawall.sdk.testing.clock import FakeClock


class MemoryJournal:
    """Steps by name, stored as the database would: as JSON."""

    def __init__(self) -> None:
        self._steps: dict[str, bytes] = {}

    def get(self, step: str) -> Json | None:
        stored = self._steps.get(step)
        return None if stored is None else dict(orjson.loads(stored))

    def record(self, step: str, data: Mapping[str, Any]) -> None:
        self._steps[step] = orjson.dumps(dict(data))


@dataclass(slots=True)
class RecordingProtection:
    """Answers what the test has put in and notes each call as (name, arguments).

    ``failures`` are raised by the next call of that name, once each.
    """

    outcome: CheckpointOutcome = field(
        default_factory=lambda: CheckpointOutcome(str(uuid4()), "available", "5" * 64, 3, 300, 100)
    )
    expiry: ExpiryOutcome = field(default_factory=lambda: ExpiryOutcome(kept=1, deleted=()))
    failures: dict[str, SeawallError] = field(default_factory=dict)
    calls: list[tuple[str, Json]] = field(default_factory=list)

    def protect(self, context: OperationContext, *, plan_id: str, provider_id: str) -> CheckpointOutcome:
        self._note(context, "protect", {"plan_id": plan_id, "provider_id": provider_id})
        return self.outcome

    def expire(
        self, context: OperationContext, *, plan_id: str, scheduled_operation_id: str | None, rules: Json
    ) -> ExpiryOutcome:
        asked = {"plan_id": plan_id, "scheduled_operation_id": scheduled_operation_id, "rules": rules}
        self._note(context, "expire", asked)
        return self.expiry

    def restore(self, context: OperationContext, *, restore_id: str) -> Json:
        return self._note(context, "restore", {"restore_id": restore_id})

    def delete(self, context: OperationContext, *, checkpoint_id: str) -> Json:
        return self._note(context, "delete", {"checkpoint_id": checkpoint_id})

    def maintain(self, context: OperationContext, *, repository_id: str) -> Json:
        return self._note(context, "maintain", {"repository_id": repository_id})

    def _note(self, context: OperationContext, name: str, asked: Json) -> Json:
        context.check()
        self.calls.append((name, asked))
        if (failure := self.failures.pop(name, None)) is not None:
            raise failure
        return asked


@dataclass(slots=True)
class MemoryContext:
    """An ``OperationContext`` of a run that exists only in the test."""

    protection: RecordingProtection = field(default_factory=RecordingProtection)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    clock: Clock = field(default_factory=FakeClock)
    run_id: str = field(default_factory=lambda: str(uuid4()))
    operation_type: str = ""
    scheduled_operation_id: str | None = field(default_factory=lambda: str(uuid4()))
    trigger_id: str | None = field(default_factory=lambda: str(uuid4()))
    project_id: str = field(default_factory=lambda: str(uuid4()))
    user_id: str = "tester"
    kind: str = "scheduled"
    window_s: float = 1800
    run_type: Literal["execute", "resume"] = "execute"
    attempt: int = 1
    fence: int = 1
    is_cancelled: bool = False
    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def triggered_at(self) -> datetime:
        return self.clock.now()

    @property
    def expected_at(self) -> datetime:
        return self.clock.now()

    def now(self) -> datetime:
        return self.clock.now()

    def check(self) -> None:
        if self.is_cancelled:
            raise CancelledError("the run was cancelled")

    def confirm_lease(self) -> None:
        self.check()

    def wait(self, seconds: float) -> None:
        """Does not wait: nothing but the test moves its time."""
        self.check()

    async def sleep(self, seconds: float) -> None:
        """Does not wait either, but lets others of its loop go on."""
        self.check()
        await asyncio.sleep(0)  # noqa: TID251 - no time passes: this only gives way
        self.check()

    async def record(self, step: str, data: Mapping[str, Any]) -> None:
        self.check()
        self.journal.record(step, data)

    def progress(
        self, *, done_bytes: int, done_items: int, total_bytes: int | None = None, text: str = ""
    ) -> None:
        if done_bytes < 0 or done_items < 0:
            raise ValueError("progress below zero")

    def log(self, level: Literal["debug", "info", "warning", "error"], text: str) -> None:
        self.lines.append((level, text))


class OperationSuite:
    """What every operation must hold; inherit from it and set the three attributes."""

    operation: ClassVar[type[Operation]]
    definitions: ClassVar[Sequence[Json]]
    """Good ones, at least one."""
    refused: ClassVar[Sequence[Json]] = ()
    """Those that the schema, or ``check_definition``, must refuse."""

    def make_context(self) -> MemoryContext:
        """A fresh run's context; override it to prepare one."""
        return MemoryContext(operation_type=self.operation.operation_type)

    def test_its_type_is_a_word_of_the_api(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", self.operation.operation_type)

    def test_its_schema_is_a_json_schema_of_an_object(self) -> None:
        Draft202012Validator.check_schema(self.operation.definition_schema)
        assert self.operation.definition_schema.get("type") == "object"

    def test_it_is_made_without_arguments(self) -> None:
        assert isinstance(self.operation(), Operation)

    def test_its_schema_accepts_good_definitions(self) -> None:
        assert self.definitions
        assert [one for one in self.definitions if not self._is_accepted(one)] == []

    def test_bad_definitions_are_refused(self) -> None:
        assert [one for one in self.refused if self._is_accepted(one)] == []

    def test_its_result_can_be_stored(self) -> None:
        for definition in self.definitions:
            result = self._run(copy.deepcopy(definition), self.make_context())
            assert result is None or isinstance(orjson.loads(orjson.dumps(dict(result))), dict)

    def test_it_leaves_its_definition_as_it_was(self) -> None:
        for definition in self.definitions:
            given = copy.deepcopy(definition)
            self._run(given, self.make_context())
            assert given == definition

    def test_a_resumed_run_ends_with_the_same_result(self) -> None:
        for definition in self.definitions:
            context = self.make_context()
            first = self._run(copy.deepcopy(definition), context)
            context.run_type = "resume"
            context.attempt = 2
            assert self._run(copy.deepcopy(definition), context) == first

    def _run(self, definition: Json, context: MemoryContext) -> Mapping[str, Any] | None:
        """What it answers, whether its ``run`` is ``async def`` or not."""
        answer = self.operation().run(definition, context)
        return asyncio.run(_awaited(answer)) if inspect.isawaitable(answer) else answer

    def _is_accepted(self, definition: Json) -> bool:
        schema = Draft202012Validator(
            self.operation.definition_schema, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        if not schema.is_valid(definition):
            return False
        own_check: Callable[[Json], None] | None = getattr(self.operation, "check_definition", None)
        if own_check is not None:
            try:
                own_check(definition)
            except SeawallError:
                return False
        return True


async def _awaited(answer: Awaitable[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    return await answer
