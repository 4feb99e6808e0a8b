# SPDX-License-Identifier: Apache-2.0
"""One process of the soak: an engine, or a worker that carries out runs, until it is killed.

    python -m tools.soak_process engine|worker HOST DATABASE OPERATIONS_FOLDER

The services are those of the product; only what a worker's operations do is the soak's own.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from seawall.db import services
from seawall.db.notify import Listener
from seawall.db.session import Database
from seawall.operation_engine.dispatcher import Dispatcher
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.operation_engine.service import OperationEngineService
from seawall.runtime.clock import SystemClock
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.registry import PluginKind, Plugins, load_plugins
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.operation import Operation
from seawall.sdk.testing.operation_suite import RecordingProtection

LEASE_S = 3.0
HEARTBEAT_S = 1.0
POLL_S = 0.5


def where_of(text: str) -> Path | DatabaseUrl:
    """A database as it stands in an argument."""
    return DatabaseUrl.parse(text) if text.startswith("postgresql") else Path(text)


def operations_of(folder: Path) -> Plugins[Operation]:
    """Those of the product, and those dropped into the folder."""
    kind = PluginKind(
        "seawall.operations",
        "operation_type",
        Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
        "seawall.operation_engine.operations",
    )
    return load_plugins(kind, folders=[folder])


def main(role: str, host: str, where: str, folder: Path) -> None:
    clock, wakeup = SystemClock(), Wakeup()
    database = Database(where_of(where), clock)
    service = database.write(
        "soak.service",
        lambda tx: services.find_or_create(tx, host=host, binary=role, version="0", pid=os.getpid()),
    )
    Listener(database, wakeup, clock).start()
    if role == "engine":
        OperationEngineService(
            database, clock=clock, wakeup=wakeup, host=host, poll_s=POLL_S, cleanup_interval_s=5,
            keep_runs_days=90, error_checkpoint_days=7,
        ).init_host(service_id=service)  # fmt: skip
    else:
        Dispatcher(
            database, clock=clock, wakeup=wakeup, operations=operations_of(folder),
            executor=ThreadPool(workers=8), protection=RecordingProtection(), host=host, lease_s=LEASE_S,
            heartbeat_s=HEARTBEAT_S, poll_s=POLL_S,
        ).start(service)  # fmt: skip
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
