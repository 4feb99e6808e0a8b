# SPDX-License-Identifier: Apache-2.0
"""The repository engine: reads and writes the public restic repository format v2 on any bank.

It knows ``seawall.sdk`` and ``seawall.core`` and nothing else of the project. ``Repository`` is the way in.
"""

from __future__ import annotations

from seawall.repository.faults import Fault
from seawall.repository.locks import LockInfo, RepositoryLock
from seawall.repository.nodes import Node
from seawall.repository.prune import PruneResult
from seawall.repository.repair import RepairResult
from seawall.repository.repository import Repository
from seawall.repository.restore import RestoreResult
from seawall.repository.snapshot import Snapshot
from seawall.repository.writer import TreeResult, Writer

__all__ = [
    "Fault",
    "LockInfo",
    "Node",
    "PruneResult",
    "RepairResult",
    "Repository",
    "RepositoryLock",
    "RestoreResult",
    "Snapshot",
    "TreeResult",
    "Writer",
]
