# SPDX-License-Identifier: Apache-2.0
"""How a figure is printed."""

from __future__ import annotations

import json
from typing import Any


def show(
    name: str,
    value: float,
    unit: str,
    goal: float,
    *,
    at_least: bool = False,
    peer: str | None = None,
    peer_value: float | None = None,
    ratio: float | None = None,
) -> None:
    """One line; ``goal`` is the most it may be, or the least with ``at_least``."""
    line: dict[str, Any] = {"name": name, "value": round(value, 3), "unit": unit, "goal": goal}
    line["ok"] = value >= goal if at_least else value <= goal
    if peer is not None:
        line["peer"] = peer
        line["peer_value"] = None if peer_value is None else round(peer_value, 3)
        line["ratio"] = None if ratio is None else round(ratio, 3)
    print(json.dumps(line), flush=True)


def tell(name: str, value: float) -> None:
    """A line that has no goal: what one side used."""
    print(json.dumps({"name": name, "value": round(value, 3)}), flush=True)
