# SPDX-License-Identifier: Apache-2.0
"""Fault: one thing that is wrong while the rest goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """What a restore could not write, or a check found: the path or object, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
