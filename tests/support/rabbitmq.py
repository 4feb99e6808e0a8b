# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ for tests: one that is there already; with queues of a test's own, which it deletes.

It is looked for at AMQP_URL, by default ``amqp://guest:guest@127.0.0.1:5672``. With ``rabbitmq`` among
TEST_SERVERS one that is missing fails; without it the tests that need it are skipped, with the reason. A
broker that is lost and comes back is a proxy between us and it, which is cut.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import amqp
import orjson
import pytest

from seawall.core.errors import BrokerUnavailableError
from seawall.runtime.amqp_url import AmqpUrl
from seawall.runtime.broker import Broker, Link, Names


def free_names() -> str:
    """The name of an exchange that nobody has."""
    return f"seawall-test-{uuid.uuid4().hex}"


def server_url() -> AmqpUrl:
    """The test server."""
    return AmqpUrl.parse(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672"))


@cache
def _missing() -> str | None:
    """Why there is no RabbitMQ for tests."""
    try:
        Link(server_url(), Names("seawall-test")).close()
    except BrokerUnavailableError as error:
        return f"no RabbitMQ for tests: {error}"
    return None


def require_rabbitmq() -> None:
    """Skip loudly when there is no server, or fail when there must be one."""
    reason = _missing()
    if reason is None:
        return
    if "rabbitmq" in os.environ.get("TEST_SERVERS", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


class Outside:
    """A client of the broker that knows nothing of Seawall: it sends events and hears what happens."""

    def __init__(self, names: Names, url: AmqpUrl | None = None) -> None:
        """By default at the test server."""
        url = url or server_url()
        self.names = names
        self._connection: Any = amqp.Connection(
            host=f"{url.host}:{url.port}",
            userid=url.user,
            password=url.password,
            virtual_host=url.virtual_host,
        )
        self._connection.connect()
        self._channel = self._connection.channel()

    def close(self) -> None:
        """Delete what the test has made."""
        for queue in (self.names.inbox, self.names.dead, f"{self.names.exchange}.heard"):
            self._channel.queue_delete(queue)
        for exchange in (self.names.exchange, self.names.inbox, self.names.dead, self.names.probe):
            self._channel.exchange_delete(exchange)
        self._connection.close()

    def send(
        self,
        routing_key: str | bytes,
        body: bytes | None = None,
        *,
        id: str = "1",
        properties: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """One event, or these bytes; with the properties that AMQP knows."""
        event = {"specversion": "1.0", "id": id, "source": "/storage", "type": "volume.created", **more}
        content = orjson.dumps(event) if body is None else body
        self._channel.basic_publish(
            amqp.Message(content, delivery_mode=2, **(properties or {})),
            exchange=self.names.inbox,
            routing_key=routing_key,
        )

    def listen(self) -> None:
        """Keep what Seawall tells from now on; its exchange must be there."""
        queue = f"{self.names.exchange}.heard"
        self._channel.queue_declare(queue, durable=True, auto_delete=False)
        self._channel.queue_bind(queue, self.names.exchange, "#")

    def take(self, queue: str | None = None) -> list[tuple[str, bytes]]:
        """(routing key, body) of all that lies in a queue; by default of what was heard."""
        found = []
        while (
            message := self._channel.basic_get(queue or f"{self.names.exchange}.heard", no_ack=True)
        ) is not None:
            body = message.body
            content = body if isinstance(body, bytes) else body.encode()
            found.append((message.delivery_info["routing_key"], content))
        return found

    def depth(self, queue: str) -> int:
        """Messages that are ready."""
        return int(self._channel.queue_declare(queue, passive=True).message_count)


class Proxy:
    """A TCP proxy before the test server that can be cut and mended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._is_cut = threading.Event()
        self._is_closed = threading.Event()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def url(self) -> AmqpUrl:
        """The server, through the proxy."""
        return replace(server_url(), host="127.0.0.1", port=self.port)

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._is_cut.set()
        with self._lock:
            for one in list(self._pairs):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut.clear()

    def close(self) -> None:
        self._is_closed.set()
        self.cut()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._is_closed.is_set():
                for key, _ in selector.select(0.1):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._pass_on(selector, key.fileobj)
            for one in list(self._pairs):
                one.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        near, _ = self._listener.accept()
        if self._is_cut.is_set():
            near.close()
            return
        url = server_url()
        far = socket.create_connection((url.host, url.port))
        with self._lock:
            self._pairs[near], self._pairs[far] = far, near
        for one in (near, far):
            selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, selector: selectors.BaseSelector, one: Any) -> None:
        other = self._pairs.get(one)
        if other is None:
            return
        try:
            content = one.recv(65536)
            if content:
                other.sendall(content)
                return
        except OSError:
            pass  # one of the two ends is gone: so is the other
        with self._lock:
            for end in (one, other):
                selector.unregister(end)
                self._pairs.pop(end, None)
                end.close()


@contextmanager
def broker() -> Iterator[Broker]:
    """The test server, under names of the test's own."""
    require_rabbitmq()
    yield Broker(server_url(), exchange=free_names())


@contextmanager
def proxy() -> Iterator[Proxy]:
    """A proxy before the test server."""
    require_rabbitmq()
    made = Proxy()
    try:
        yield made
    finally:
        made.close()
