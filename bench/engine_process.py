# SPDX-License-Identifier: Apache-2.0
"""One claiming process: an engine on a database, which claims all that is due once its input is closed.

    python -m bench.engine_process DATABASE_URL

It says ``ready``, and ``done`` when nothing is due any more.
"""

from __future__ import annotations

import sys

from bench.engine_ground import claim_all, engine_of, opened
from seawall.db import due
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.wakeup import Wakeup


def main() -> None:
    with opened(DatabaseUrl.parse(sys.argv[1])) as database:
        engine = engine_of(database, Wakeup())
        # Connected on every lane, as an engine that has been running is.
        database.read(due.next_due_at)
        database.write("bench.connect", lambda tx: None, locks_rows=True)
        print("ready", flush=True)
        sys.stdin.read()
        claim_all(database, engine)
        print("done", flush=True)


if __name__ == "__main__":
    main()
