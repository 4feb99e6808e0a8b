# SPDX-License-Identifier: Apache-2.0
"""The operation engine: claims, bursts, a million triggers. On SQLite, and on PostgreSQL where one is found.

    python -m bench.engine [rates] [bursts] [million] [sqlite] [postgresql]

Each part says what its figures are. Medians, sides in turns, the peer in the same run; see ``engine_ground``
for smaller runs.
"""

from __future__ import annotations

import json
import sys

from bench.engine_bursts import show_bursts
from bench.engine_ground import BURST, FIRES, ROUNDS, SMALL_BURST, TRIGGERS, is_postgresql_there
from bench.engine_million import show_million
from bench.engine_rates import show_rates
from seawall.runtime.logging import set_up_logging
from tests.support.databases import KINDS

_PARTS = {"rates", "bursts", "million"}
_NEED_POSTGRESQL = (
    "engine.fire_rate.postgresql",
    "engine.fire_rate_of_limit.postgresql",
    "engine.two_engines_speedup.postgresql",
    "engine.claim_1m_over_1k.postgresql",
)


def main() -> None:
    set_up_logging(level="error", form="json")
    given = set(sys.argv[1:])
    parts = given & _PARTS or _PARTS
    sizes = {"fires": FIRES, "bursts": [SMALL_BURST, BURST], "triggers": TRIGGERS, "rounds": ROUNDS}
    print(json.dumps({"name": "engine.sizes", **sizes}), flush=True)
    kinds = tuple(kind for kind in KINDS if kind in given) or KINDS
    if "postgresql" in kinds and not is_postgresql_there(*_NEED_POSTGRESQL):
        kinds = tuple(kind for kind in kinds if kind != "postgresql")
    if "rates" in parts:
        show_rates(kinds)
    if "bursts" in parts:
        show_bursts()
    if "million" in parts:
        show_million(kinds)


if __name__ == "__main__":
    main()
