# SPDX-License-Identifier: Apache-2.0
"""A process that takes messages, or tells what happens, until a failpoint kills it: DATABASE EXCHANGE WHAT"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from seawall.api.monitor import Monitor
from seawall.db.session import Database
from seawall.operation_engine.events.publisher import Publisher
from seawall.runtime.broker import Broker
from seawall.runtime.clock import SystemClock
from seawall.runtime.wakeup import Wakeup
from seawall.wiring.broker import EventBroker
from tests.support.rabbitmq import server_url


def main(where: str, exchange: str, what: str) -> None:
    clock = SystemClock()
    database = Database(Path(where), clock)
    broker = Broker(server_url(), exchange=exchange)
    if what == "publish":
        publisher = Publisher(database, broker, clock=clock, poll_s=1, holder="killed")
        publisher.run(clock.now())
        return
    monitor = Monitor(EventBroker(broker, None, database=database, wakeup=Wakeup()), clock=clock)
    monitor.start()
    # Until it is killed; a test that waits for it in vain ends it.
    threading.Event().wait(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
