# SPDX-License-Identifier: Apache-2.0
"""Protectable and protection plugins: a pair for each resource type.

A **protectable** finds resources of its type on this host. A **protection** reads and writes their bytes; it
runs inside a mover process, never in the API or the engine, and may be killed at any instant.
The contract suite is ``seawall.sdk.testing.protection_suite``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Instance:
    """A resource that could be protected."""

    type: str
    id: str
    name: str
    extra_info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """A resource of a plan, as a protection sees it."""

    type: str
    id: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceFault:
    """Something of a source that could not be taken whole (I8)."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a main step stored: the tree that holds the resource, and how much it was."""

    tree_id: str
    items: int
    read_bytes: int
    added_bytes: int
    faults: tuple[SourceFault, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth keeping with the checkpoint; plain JSON."""


@runtime_checkable
class Protectable(Protocol):
    """Finds resources of one type."""

    resource_type: ClassVar[str]
    """e.g. ``directory``; what a plan's resource says as its type."""
    dependent_types: ClassVar[Sequence[str]]
    on_host: ClassVar[bool]
    """Whether a resource lives on a host, so that its runs must go there."""

    def instances(self, allowed_roots: Sequence[Path], parameters: Mapping[str, Any]) -> Iterable[Instance]:
        """What there is beneath the roots that the project may touch (I11)."""
        ...

    def instance(self, resource_id: str, allowed_roots: Sequence[Path]) -> Instance:
        """One resource by its id.

        ``NotFoundError``, ``ForbiddenError`` or ``InvalidInputError`` when there is none, it lies outside the
        roots, or cannot be read. Symlinks never lead out of a root.
        """
        ...


class TreeWriter(Protocol):
    """The part of a repository writer that a protection may use."""

    def save_path(
        self,
        path: Path,
        *,
        excludes: Sequence[str],
        parent_tree: str | None,
        progress: Callable[[int, int], None] | None,
    ) -> Any:
        """Back up a directory or a file as a tree (see ``repository.Writer.save_path``)."""
        ...

    def save_stream(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        mode: int = 0o600,
        mtime_ns: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> Any:
        """Store a stream as a file node; nothing refers to it if the iterable raises."""
        ...

    def save_nodes(self, nodes: Sequence[Any]) -> str:
        """A tree of these nodes; its id."""
        ...

    def dir_node(self, name: str, tree_id: str, *, like: Any = None) -> Any:
        """A folder with this tree; mode, owner, times and attributes are those of the node ``like``."""
        ...

    def load_entries(self, tree_id: str) -> list[dict[str, Any]]:
        """The entries of a stored tree, as JSON; ``DamagedError`` if it cannot be read."""
        ...


class TreeReader(Protocol):
    """The part of a repository that a protection may read when it restores."""

    def restore(
        self,
        tree_id: str,
        target: Path,
        *,
        overwrite: Literal["replace", "keep"] = "replace",
        include: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Write a tree below ``target`` (see ``repository.Repository.restore``)."""
        ...


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a protection step may use inside its mover."""

    allowed_roots: tuple[Path, ...]
    excludes: tuple[str, ...]
    """Always left out: the bank's folder and the data folder."""
    scratch: Path
    """An empty folder of this step, 0700, removed afterwards."""
    parent_tree: str | None
    """The same resource's tree in the newest good checkpoint, for unchanged-file detection."""
    progress: Callable[[int, int], None]
    """(bytes done, items done)."""


@runtime_checkable
class ProtectionPlugin(Protocol):
    """Reads and writes resources of one type, inside a mover."""

    resource_type: ClassVar[str]
    parameters_schema: ClassVar[Mapping[str, Any]]
    restore_schema: ClassVar[Mapping[str, Any]]

    def protect(self, resource: ResourceRef, writer: TreeWriter, context: StepContext) -> StepResult:
        """Store the resource as a tree. ``SourceError`` when it cannot be taken; faults in single files are
        listed in the result and make the checkpoint ``available_with_warnings``."""
        ...

    def restore(
        self,
        resource: ResourceRef,
        tree_id: str,
        reader: TreeReader,
        target: Path | None,
        options: Mapping[str, Any],
        context: StepContext,
    ) -> Json:
        """Bring it back: to ``target``, or to where it came from when None. Figures for the restore row."""
        ...
