# SPDX-License-Identifier: Apache-2.0
"""``celery``: several hosts share the runs of one database, and RabbitMQ brings the news.

A message is a doorbell: it says that there is something to claim, and carries nothing. It is acknowledged
before anything is claimed and its task only wakes the dispatcher, so that no message is ever held for as long
as work takes. Work goes on in a thread pool of this process. A worker that has no room left stops listening
until it has (docs/decisions/0008-celery-doorbell.md).

One listening worker a process: Celery's request to stop is one for the whole process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from seawall.core.errors import ConfigurationError, UnavailableError
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.sdk.executor import RunTask
from seawall.sdk.failpoints import failpoint

if TYPE_CHECKING:
    from celery import Celery as App
    from kombu.connection import Connection
    from kombu.entity import Queue

log = logging.getLogger(__name__)

_TASK = "seawall.doorbell"
# A queue that nobody has listened to for so long, of a host that is gone, is removed by the broker.
_QUEUE_LASTS_S = 7 * 86_400
_TEND_S = 0.5
_CONNECT_TIMEOUT_S = 4
_HEARTBEAT_S = 10
_RESTART_S = 5.0
_STOP_S = 5.0
_NOT_ROUTED = 404


class CeleryDoorbells:
    """An executor of threads whose process claims when a doorbell rings; and what rings them."""

    executor_name: ClassVar[str] = "celery"

    def __init__(
        self,
        *,
        host: str,
        amqp_url: str | None,
        workers: int = 8,
        celery_queue_prefix: str = "seawall.runs",
        doorbell_expires_s: float = 10,
    ) -> None:
        """Connects to nothing yet: ``ring`` does, and ``listen``."""
        if amqp_url is None:
            raise ConfigurationError.of("amqp_url", None, "must be set with the executor celery")
        self._host = host
        self._prefix = celery_queue_prefix
        self._expires_s = doorbell_expires_s
        self._pool = ThreadPool(workers=workers)
        self._app = self._make_app(amqp_url)
        self._ringing = threading.Lock()
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._is_connected = threading.Event()
        self._thread: threading.Thread | None = None

    # --- the executor: threads of this process -------------------------------------------------

    def submit(self, runs: Sequence[RunTask]) -> None:
        self._pool.submit(runs)

    def cancel(self, run_id: str) -> bool:
        return self._pool.cancel(run_id)

    def capacity(self) -> int:
        return self._pool.capacity()

    def on_free(self, callback: Callable[[], None]) -> None:
        self._pool.on_free(callback)

    def shutdown(self, *, grace_s: float) -> list[str]:
        self._stop_listening()
        with self._ringing:
            self._hang_up()
        return self._pool.shutdown(grace_s=grace_s)

    # --- doorbells -----------------------------------------------------------------------------

    @property
    def look_every_s(self) -> float:
        return self._expires_s

    @property
    def is_listening(self) -> bool:
        return self._is_connected.is_set()

    def ring(self, host: str | None, *, most: int) -> int:
        with self._ringing:
            try:
                return self._ring(self._queue(host), most)
            except _broker_errors(self._app) as error:
                self._hang_up()
                raise UnavailableError(f"RabbitMQ does not take doorbells: {error}") from error

    def listen(self, ring: Callable[[], None]) -> None:
        # Celery tells of every message; what fails is told as a warning.
        logging.getLogger("celery").setLevel(logging.WARNING)
        self._register(ring)
        self._thread = threading.Thread(target=self._serve, name="doorbells", daemon=True)
        self._thread.start()

    # --- ringing -------------------------------------------------------------------------------

    def _ring(self, queue: Queue, most: int) -> int:
        if self._connection is None:
            self._connection = self._app.connection_for_write()
        connection = self._connection
        connection.ensure_connection(max_retries=1, timeout=_CONNECT_TIMEOUT_S)
        with connection.channel() as channel:
            missing = min(most, self._unrung(channel, queue, connection.channel_errors))
            if missing <= 0:
                return 0
            producer = self._app.amqp.Producer(channel, auto_declare=False)
            failpoint("doorbells.ring.before_publish")
            for _ in range(missing):
                self._app.send_task(
                    _TASK,
                    queue=queue,
                    producer=producer,
                    expiration=self._expires_s,
                    delivery_mode="transient",
                    ignore_result=True,
                    retry=False,
                )
            failpoint("doorbells.ring.after_publish")
        return missing

    def _unrung(self, channel: Any, queue: Queue, channel_errors: tuple[type[Exception], ...]) -> int:
        """How many listen at this queue for whom no doorbell waits there yet."""
        try:
            found = channel.queue_declare(queue=queue.name, passive=True)
        except channel_errors as error:
            if getattr(error, "code", None) == _NOT_ROUTED:
                # Nobody has ever listened there.
                return 0
            raise
        return int(found.consumer_count) - int(found.message_count)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()  # type: ignore[no-untyped-call]  # kombu's has no types

    # --- listening -----------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stopping.is_set():
            # Ends when it is told to, and with what Celery takes for fatal: then it is begun anew, for
            # meanwhile the dispatcher looks by itself.
            try:
                self._work()
            except Exception:  # this thread is the ear of the process: it must go on
                log.exception("the Celery worker failed")
            self._is_connected.clear()
            if not self._stopping.is_set():
                log.error("the Celery worker has ended and is started again in %s s", _RESTART_S)
                self._stopping.wait(_RESTART_S)

    def _work(self) -> None:
        from celery.worker import WorkController

        WorkController(
            app=self._app,
            hostname=f"seawall@{self._host}",
            pool="solo",
            concurrency=1,
            prefetch_multiplier=1,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
        ).start()

    def _stop_listening(self) -> None:
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        from celery.worker import state

        state.should_stop = 0
        thread.join(_STOP_S)
        if not thread.is_alive():
            # Else it hangs in a connection, and ends with the process.
            state.should_stop = None

    def _register(self, ring: Callable[[], None]) -> None:
        from celery import bootsteps

        @self._app.task(name=_TASK, ignore_result=True)  # type: ignore[untyped-decorator]  # no types there
        def doorbell() -> None:
            # If the process dies here, the doorbell is lost; another rings while something waits.
            failpoint("doorbells.hear.before_claim")
            ring()

        owner = self

        class Tend(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
            """Says when it is connected, and listens only while there is room."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
                hub.timer.call_repeatedly(_TEND_S, owner._tend, (consumer,))
                owner._is_connected.set()
                # What was rung while it was away is unknown.
                ring()

            def stop(self, consumer: Any) -> None:
                owner._is_connected.clear()

        self._app.steps["consumer"].add(Tend)

    def _tend(self, consumer: Any) -> None:
        """On the worker's thread: listen, or not, by the room there is."""
        listener = consumer.task_consumer
        if listener is None:
            return
        has_room = self._pool.capacity() > 0
        for name, queue in self._app.amqp.queues.items():
            if has_room and not listener.consuming_from(name):
                listener.add_queue(queue)
                listener.consume()
            elif not has_room and listener.consuming_from(name):
                listener.cancel_by_queue(name)

    # --- names ---------------------------------------------------------------------------------

    def _queue(self, host: str | None) -> Queue:
        from kombu.entity import Exchange, Queue

        name = self._prefix if host is None else f"{self._prefix}.{host}"
        exchange = Exchange(  # type: ignore[no-untyped-call]  # kombu's has no types
            f"{self._prefix}.doorbells", type="direct", durable=True
        )
        return Queue(  # type: ignore[no-untyped-call]  # kombu's has no types
            name, exchange, routing_key=name, durable=True, expires=_QUEUE_LASTS_S
        )

    def _make_app(self, amqp_url: str) -> App:
        try:
            from celery import Celery
        except ImportError as error:
            rule = "needs the package celery: pip install 'seawall[scale]'"
            raise ConfigurationError.of("executor", self.executor_name, rule) from error
        app = Celery("seawall", set_as_current=False, broker=amqp_url, fixups=[])
        app.conf.update(
            accept_content=["json"],
            task_serializer="json",
            task_ignore_result=True,
            task_acks_late=False,
            task_create_missing_queues=False,
            task_default_queue=self._prefix,
            task_queues=[self._queue(None), self._queue(self._host)],
            worker_enable_remote_control=False,
            worker_send_task_events=False,
            worker_hijack_root_logger=False,
            worker_cancel_long_running_tasks_on_connection_loss=True,
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            broker_connection_timeout=_CONNECT_TIMEOUT_S,
            broker_heartbeat=_HEARTBEAT_S,
            broker_pool_limit=None,
        )
        return app


def _broker_errors(app: App) -> tuple[type[Exception], ...]:
    """What a broker that is away, or refuses, raises."""
    from kombu.exceptions import KombuError

    connection = app.connection_for_write()
    return (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
