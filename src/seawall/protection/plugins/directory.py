# SPDX-License-Identifier: Apache-2.0
"""``directory``: a folder with everything in it. Its tree has one entry, the folder itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from seawall.core.errors import DamagedError, InvalidInputError, SeawallError, SourceError
from seawall.sdk.beneath import checked_path, find
from seawall.sdk.protection import (
    Json,
    ResourceRef,
    SourceFault,
    StepContext,
    StepResult,
    TreeReader,
    TreeWriter,
)

# What the tree calls the folder when it is the root of the host, which has no name.
_ROOT_NAME: Final = "root"
_SHOWN_FAULTS: Final = 200


class DirectoryProtection:
    """Files, links, modes, times, extended attributes, hard links, odd names: all that a folder holds."""

    resource_type: ClassVar[str] = "directory"
    parameters_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "excludes": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "description": "paths left out with all beneath them; relative ones begin at the folder",
            }
        },
        "additionalProperties": False,
    }
    restore_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "skip": {"type": "boolean", "description": "leave this resource out"},
            "paths": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "description": "only these, relative to the folder; all if absent",
            },
            "overwrite": {
                "enum": ["replace", "keep"],
                "description": "what is there already; replace if absent",
            },
        },
        "additionalProperties": False,
    }

    def protect(self, resource: ResourceRef, writer: TreeWriter, context: StepContext) -> StepResult:
        """Single files that cannot be read whole are faults; ``SourceError`` when the folder is not there."""
        path = _source(resource.id, context)
        excludes = [*context.excludes, *(str(path / one) for one in resource.parameters.get("excludes", ()))]
        result = writer.save_path(
            path,
            excludes=excludes,
            parent_tree=_inner(writer, context.parent_tree),
            progress=context.progress,
        )
        name = path.name or _ROOT_NAME
        tree = writer.save_nodes([writer.dir_node(name, result.tree_id, like=result.root)])
        items = result.items - 1  # the folder itself is no content
        faults = list(result.faults)
        if items <= 0 and not faults:
            faults.append(SourceFault(str(path), "holds nothing, so nothing of it was backed up"))
        return StepResult(tree, items, result.read_bytes, result.added_bytes, tuple(faults), {"name": name})

    def restore(
        self,
        resource: ResourceRef,
        tree_id: str,
        reader: TreeReader,
        target: Path | None,
        options: Mapping[str, Any],
        context: StepContext,
    ) -> Json:
        """Write it below ``target``, or in place. What could not be written is listed under ``faults``."""
        origin = checked_path(resource.id)
        name = origin.name or _ROOT_NAME
        if target is None and not origin.name:
            raise InvalidInputError.of(
                "restore_target", None, "must be a folder: `/` is not restored in place"
            )
        wanted = origin if target is None else target / name
        place = find(wanted, context.allowed_roots, must_exist=False)
        if target is None and place.path.name != name:
            # The folder's path leads elsewhere by a symlink; what it leads to is not replaced by a folder.
            raise InvalidInputError.of(
                "restore_target", None, f"must be a folder: {origin} leads to {place.path} by a symbolic link"
            )
        result = reader.restore(
            tree_id,
            place.path.parent,
            overwrite=options.get("overwrite", "replace"),
            include=[f"{name}/{one}" for one in options.get("paths", ())],
            progress=context.progress,
        )
        return {
            "items": result.items,
            "bytes": result.bytes,
            "target": str(place.path),
            "faults": [str(one) for one in result.faults[:_SHOWN_FAULTS]],
            "fault_count": len(result.faults),
        }


def _source(text: str, context: StepContext) -> Path:
    """The folder, free of symlinks and beneath a root that the project may touch (I11)."""
    try:
        found = find(text, context.allowed_roots)
    except SeawallError as error:
        raise SourceError(f"directory {text}: {error}") from error
    if found.status is None or not stat.S_ISDIR(found.status.st_mode):
        raise SourceError(f"directory {text}: is no directory")
    return found.path


def _inner(writer: TreeWriter, tree_id: str | None) -> str | None:
    """The folder's own tree in the tree of the resource; None when that cannot be read: then all is read."""
    if tree_id is None:
        return None
    try:
        entries = writer.load_entries(tree_id)
    except DamagedError:
        return None
    found = entries[0].get("subtree") if len(entries) == 1 else None
    return found if isinstance(found, str) and os.path.basename(found) == found else None
