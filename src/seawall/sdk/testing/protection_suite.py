# SPDX-License-Identifier: Apache-2.0
"""The contract of protections. Subclass ``ProtectionSuite``, say how to make a source, and give a repository.

class TestMyProtection(ProtectionSuite):
    protection = MyProtection
    ...
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator

from seawall.core.errors import ConflictError, DamagedError, ForbiddenError, InvalidInputError, SourceError
from seawall.sdk.protection import (
    Json,
    ProtectionPlugin,
    ResourceRef,
    StepContext,
    StepResult,
    TreeReader,
    TreeWriter,
)

REFUSALS = (SourceError, ForbiddenError, InvalidInputError, ConflictError)
_FIGURES = {"items", "bytes", "target", "faults", "fault_count"}


class Store(Protocol):
    """A real repository on a bank of the test."""

    def writer(self) -> AbstractContextManager[TreeWriter]:
        """A writer; what it stored can be read when the block has ended well."""
        ...

    @property
    def reader(self) -> TreeReader:
        """Reads what writers have stored."""
        ...


class Shown:
    """The progress that a step reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done_bytes: int, done_items: int) -> None:
        self.seen.append((done_bytes, done_items))


class ProtectionSuite:
    """What every protection must do. Resources are paths below a folder of the test."""

    protection: ClassVar[type[ProtectionPlugin]]
    good_parameters: ClassVar[Sequence[Json]] = ({},)
    bad_parameters: ClassVar[Sequence[Any]] = ()
    good_options: ClassVar[Sequence[Json]] = ({},)
    bad_options: ClassVar[Sequence[Any]] = ()

    def make_store(self, folder: Path) -> Store:
        """An empty repository that lies below ``folder``."""
        raise NotImplementedError

    def make_source(self, folder: Path, name: str) -> str:
        """A resource with something in it, called ``name`` below ``folder``; its id."""
        raise NotImplementedError

    def change_source(self, resource_id: str) -> None:
        """Change what is in it, while it stays a whole resource."""
        raise NotImplementedError

    def content_of(self, path: Path) -> object:
        """All that must come back of the resource that lies at ``path``; equal when it did."""
        raise NotImplementedError

    def make_other(self, folder: Path, name: str) -> str:
        """Something that is there and cannot be protected as such a resource; its id."""
        raise NotImplementedError

    def make_empty(self, folder: Path, name: str) -> str | None:
        """A resource that covers nothing; its id, or None if there is no such thing."""
        raise NotImplementedError

    def make_faulty(self, folder: Path, name: str) -> tuple[str, str] | None:
        """A resource of which one part cannot be read, and a word that the fault must name; None if such a
        resource cannot be taken at all."""
        raise NotImplementedError

    # --- what the tests use ------------------------------------------------------------------------

    @pytest.fixture
    def plugin(self) -> ProtectionPlugin:
        return self.protection()

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """All that may be touched."""
        made = tmp_path / "root"
        made.mkdir()
        return made

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        made = tmp_path / "store"
        made.mkdir()
        return self.make_store(made)

    def context(self, root: Path, *, parent: str | None = None, shown: Shown | None = None) -> StepContext:
        """A step's context, its scratch beside the root."""
        scratch = root.parent / f"scratch-{uuid4()}"
        scratch.mkdir(mode=0o700)
        return StepContext((root,), (), scratch, parent, shown or Shown())

    def resource(self, resource_id: str, parameters: Mapping[str, Any] | None = None) -> ResourceRef:
        return ResourceRef(
            self.protection.resource_type, resource_id, Path(resource_id).name, parameters or {}
        )

    def protect(
        self,
        store: Store,
        resource_id: str,
        context: StepContext,
        parameters: Mapping[str, Any] | None = None,
    ) -> StepResult:
        with store.writer() as writer:
            return self.protection().protect(self.resource(resource_id, parameters), writer, context)

    def restore(
        self, store: Store, resource_id: str, tree_id: str, root: Path, target: Path | None, **options: Any
    ) -> Json:
        return self.protection().restore(
            self.resource(resource_id), tree_id, store.reader, target, options, self.context(root)
        )

    # --- what it says of itself ----------------------------------------------------------------------

    def test_it_is_made_without_arguments_and_has_a_type(self, plugin: ProtectionPlugin) -> None:
        assert isinstance(plugin, ProtectionPlugin)
        assert re.fullmatch(r"[A-Za-z][\w:.-]*", plugin.resource_type)

    def test_its_schemas_take_what_is_good_and_refuse_the_rest(self, plugin: ProtectionPlugin) -> None:
        for schema, good, bad in (
            (plugin.parameters_schema, self.good_parameters, self.bad_parameters),
            (plugin.restore_schema, self.good_options, self.bad_options),
        ):
            Draft202012Validator.check_schema(schema)
            assert schema.get("type") == "object"
            validator = Draft202012Validator(schema)
            assert [one for one in good if not validator.is_valid(one)] == []
            unknown = {"an option that nobody knows": 1}
            assert [one for one in [*bad, unknown, [], None] if validator.is_valid(one)] == []

    def test_every_restore_can_leave_it_out(self, plugin: ProtectionPlugin) -> None:
        assert Draft202012Validator(plugin.restore_schema).is_valid({"skip": True})

    # --- there and back ------------------------------------------------------------------------------

    def test_what_was_protected_comes_back_elsewhere(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        before = self.content_of(Path(source))
        result = self.protect(store, source, self.context(root))
        self.change_source(source)
        changed = self.content_of(Path(source))
        assert changed != before
        figures = self.restore(store, source, result.tree_id, root, root / "else" / "where")
        assert self.content_of(root / "else" / "where" / "one") == before
        assert self.content_of(Path(source)) == changed
        assert set(figures) == _FIGURES
        assert (figures["faults"], figures["fault_count"]) == ([], 0)
        assert figures["target"] == str(root / "else" / "where" / "one")
        assert json.loads(json.dumps(figures)) == figures

    @pytest.mark.parametrize("is_removed", [False, True])
    def test_what_was_protected_comes_back_in_place(
        self, root: Path, store: Store, *, is_removed: bool
    ) -> None:
        source = self.make_source(root, "one")
        before = self.content_of(Path(source))
        result = self.protect(store, source, self.context(root))
        self.change_source(source)
        if is_removed:
            _remove(Path(source))
        self.restore(store, source, result.tree_id, root, None)
        assert self.content_of(Path(source)) == before
        self.restore(store, source, result.tree_id, root, None)  # a resumed restore does it again
        assert self.content_of(Path(source)) == before

    def test_a_parent_changes_nothing_of_what_comes_back(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        first = self.protect(store, source, self.context(root))
        self.change_source(source)
        changed = self.content_of(Path(source))
        second = self.protect(store, source, self.context(root, parent=first.tree_id))
        self.restore(store, source, second.tree_id, root, root / "second")
        assert self.content_of(root / "second" / "one") == changed

    def test_a_parent_that_is_gone_costs_only_time(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        result = self.protect(store, source, self.context(root, parent="7" * 64))
        self.restore(store, source, result.tree_id, root, root / "else")
        assert self.content_of(root / "else" / "one") == self.content_of(Path(source))

    def test_its_figures_say_what_was_taken_and_can_be_stored(self, root: Path, store: Store) -> None:
        shown = Shown()
        result = self.protect(store, self.make_source(root, "one"), self.context(root, shown=shown))
        assert re.fullmatch("[0-9a-f]{64}", result.tree_id)
        assert result.items > 0
        assert result.read_bytes > 0
        assert result.faults == ()
        assert json.loads(json.dumps(dict(result.details))) == dict(result.details)
        assert shown.seen
        assert shown.seen == sorted(shown.seen), "progress went back"
        assert shown.seen[-1][0] >= result.read_bytes

    def test_it_leaves_nothing_beside_its_source(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        before = sorted(root.rglob("*"))
        self.protect(store, source, self.context(root))
        assert sorted(root.rglob("*")) == before

    # --- what is never a clean backup (I8) ---------------------------------------------------------------

    def test_a_source_that_is_missing_is_an_error(self, root: Path, store: Store) -> None:
        missing = str(root / "missing")
        with pytest.raises(SourceError, match="missing"):
            self.protect(store, missing, self.context(root))
        assert not (root / "missing").exists()

    def test_a_source_of_another_kind_is_an_error(self, root: Path, store: Store) -> None:
        other = self.make_other(root, "other")
        with pytest.raises(SourceError, match="other"):
            self.protect(store, other, self.context(root))

    def test_a_source_outside_of_the_roots_is_never_read(self, root: Path, store: Store) -> None:
        outside = root.parent / "outside"
        outside.mkdir()
        source = self.make_source(outside, "one")
        (root / "link").symlink_to(outside)
        for path in (source, str(root / "link" / "one"), f"{root}/../outside/one", "one", ""):
            with pytest.raises(REFUSALS):
                self.protect(store, path, self.context(root))

    def test_a_source_that_covers_nothing_is_not_green(self, root: Path, store: Store) -> None:
        empty = self.make_empty(root, "empty")
        if empty is None:
            pytest.skip("there is no empty one")
        result = self.protect(store, empty, self.context(root))
        assert result.items == 0 or result.faults
        assert "empty" in result.faults[0].path if result.faults else True

    def test_parts_that_cannot_be_read_are_named_and_the_rest_is_taken(
        self, root: Path, store: Store
    ) -> None:
        faulty = self.make_faulty(root, "faulty")
        if faulty is None:
            pytest.skip("such a resource is taken whole or not at all")
        source, word = faulty
        result = self.protect(store, source, self.context(root))
        assert [word in fault.path for fault in result.faults] == [True]
        assert all(fault.reason for fault in result.faults)
        assert result.items > 0
        self.restore(store, source, result.tree_id, root, root / "else")
        assert (root / "else" / "faulty").exists()

    # --- a restore harms nobody ---------------------------------------------------------------------------

    def test_a_restore_never_leaves_the_roots(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        result = self.protect(store, source, self.context(root))
        outside = root.parent / "outside"
        outside.mkdir()
        (root / "link").symlink_to(outside)
        for target in (outside, root / "link", root / ".." / "outside", root / "link" / "deeper"):
            with pytest.raises(REFUSALS):
                self.restore(store, source, result.tree_id, root, target)
        assert list(outside.iterdir()) == []

    def test_a_tree_that_is_gone_leaves_what_is_there_as_it_was(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        before = self.content_of(Path(source))
        with pytest.raises(DamagedError):
            self.restore(store, source, "7" * 64, root, None)
        assert self.content_of(Path(source)) == before

    def test_two_restores_elsewhere_are_alike(self, root: Path, store: Store) -> None:
        source = self.make_source(root, "one")
        result = self.protect(store, source, self.context(root))
        for name in ("a", "b"):
            self.restore(store, source, result.tree_id, root, root / name)
        assert self.content_of(root / "a" / "one") == self.content_of(root / "b" / "one")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
