# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: the one module that imports an AMQP client.

A ``Broker`` is an address and the names of what lies there; a ``Link`` is one connection, used by one thread.
Whatever breaks a connection is a ``BrokerUnavailableError``: the link is then of no use and is closed;
unacknowledged messages come again.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import amqp
from kombu.connection import Connection
from kombu.exceptions import KombuError

from seawall.core.errors import BrokerUnavailableError
from seawall.runtime.amqp_url import AmqpUrl
from seawall.sdk.failpoints import failpoint

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30
# A peer that is gone without a word is noticed after two of them.
_HEARTBEAT_S = 20
# The broker sends a heartbeat every ten seconds: after so many of them in a row, and no confirm, it confirms
# nothing.
_MOST_QUIET = 6
_PREFETCH = 100
# How long a batch waits for a message that is perhaps on its way.
_NEXT_S = 0.01
# Events that nobody mends are dropped, the oldest first.
_MOST_DEAD = 10_000
_UNREADABLE = "(not UTF-8)"
CONTENT_TYPE = "application/cloudevents+json"
_PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class Names:
    """What Seawall declares at a broker."""

    exchange: str
    """A topic exchange: what happens in Seawall."""

    @property
    def inbox(self) -> str:
        """A topic exchange, and the queue that is bound to it: what fires triggers."""
        return f"{self.exchange}.in"

    @property
    def dead(self) -> str:
        """A fan-out exchange and its queue: messages that are no events."""
        return f"{self.exchange}.dead"

    @property
    def probe(self) -> str:
        """A fan-out exchange to which nothing is bound: what is published there asks whether it is taken."""
        return f"{self.exchange}.probe"


@dataclass(frozen=True, slots=True)
class Depth:
    """How a queue stands."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish."""

    id: str
    routing_key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that came; it is ours until it is acknowledged or rejected."""

    tag: int
    routing_key: str
    body: bytes


class Broker:
    """One virtual host of a broker; thread-safe, holds nothing open."""

    def __init__(self, url: AmqpUrl, *, exchange: str) -> None:
        self._url = url
        self.names = Names(exchange)

    @property
    def address(self) -> str:
        """May be shown."""
        return str(self._url)

    def open(self) -> Link:
        """A new connection on which everything is declared; ``BrokerUnavailableError`` says why not."""
        link = Link(self._url, self.names)
        try:
            link.declare()
        except BaseException:
            link.close()
            raise
        return link


class Link:
    """One connection. Every method may raise ``BrokerUnavailableError``; then only ``close`` is of use."""

    def __init__(self, url: AmqpUrl, names: Names) -> None:
        self._url = url
        self._names = names
        self._came: deque[Delivery] = deque()
        self._last_tag = 0
        self._unconfirmed: set[int] = set()
        self._refused = 0
        self._published = 0
        self._is_broken = False
        self._consuming: Any = None
        self._publishing: Any = None
        self.is_blocked = False
        """Whether the broker has said that it takes no messages now (memory or disk are short). It says so
        only to who publishes; from then on it reads nothing from this connection until it takes messages
        again, but keeps what it was sent: hold on to the link, ``look`` notices the end."""
        context = ssl.create_default_context() if url.is_encrypted else None
        # Typed as anything: its own types cover a part only.
        connect: Any = Connection
        self._connection: Any = connect(
            hostname=url.host,
            port=url.port,
            userid=url.user,
            password=url.password,
            virtual_host=url.virtual_host,
            ssl=False if context is None else {"context": context, "server_hostname": url.host},
            connect_timeout=_CONNECT_TIMEOUT_S,
            heartbeat=_HEARTBEAT_S,
            transport="pyamqp",
            transport_options={
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
                "read_timeout": _READ_TIMEOUT_S,
                "write_timeout": _READ_TIMEOUT_S,
            },
        )
        self._established = self._guarded(self._connection.connect)

    def close(self) -> None:
        """Hang up; never raises and may be called twice."""
        self._say_good_bye()
        # A good-bye that fails may have left the socket open.
        self._established.collect()

    def _say_good_bye(self) -> None:
        if self.is_blocked or self._is_broken:
            # A good-bye would wait for an answer until the broker reads again, or get none and leave the
            # socket open.
            self._connection.collect()
            return
        try:
            self._connection.close()
        except (OSError, amqp.AMQPError):
            # It is broken already: the broker sees the end of the socket.
            self._connection.collect()

    def declare(self) -> None:
        """Make what is not there. ``BrokerUnavailableError`` when it is there, but is something else."""
        names = self._names

        def call(channel: Any) -> None:
            channel.exchange_declare(names.exchange, "topic", durable=True, auto_delete=False)
            channel.exchange_declare(names.inbox, "topic", durable=True, auto_delete=False)
            channel.exchange_declare(names.dead, "fanout", durable=True, auto_delete=False)
            channel.exchange_declare(names.probe, "fanout", durable=True, auto_delete=False)
            self._queue(channel, names.dead, {"x-max-length": _MOST_DEAD})
            self._queue(channel, names.inbox, {"x-dead-letter-exchange": names.dead})
            channel.queue_bind(names.inbox, names.inbox, "#")
            channel.queue_bind(names.dead, names.dead, "")

        self._on_channel(call)

    def depth(self, queue: str) -> Depth | None:
        """How a queue stands, by a passive declare; None when there is none of this name."""

        def call(channel: Any) -> Depth:
            found = channel.queue_declare(queue, passive=True)
            return Depth(found.queue, found.message_count, found.consumer_count)

        try:
            return self._on_channel(call)
        except amqp.NotFound:
            return None

    # --- publishing --------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish; returns once the broker has confirmed all. If the process dies here, or this raises, any
        of them may have arrived, and while ``is_blocked`` they may still."""
        failpoint("broker.batch.before_publish")
        self._guarded(lambda: self._publish(messages, self._names.exchange))
        failpoint("broker.batch.after_publish")

    def look(self) -> None:
        """Take what the broker has to say, without waiting: keeps a link alive that is seldom used, and
        ``is_blocked`` true."""

        def call() -> None:
            self._connection.heartbeat_check()
            try:
                while True:
                    self._connection.connection.blocking_read(0)
            except TimeoutError:
                pass  # it has said no more

        self._guarded(call)

    def is_taking(self) -> bool:
        """Whether the broker takes messages now: asked by two that reach nobody. It still reads the first
        after which it says no, and may confirm it before it says so."""
        self.look()
        for _ in range(2):
            if self.is_blocked:
                break
            try:
                self._guarded(lambda: self._publish([Message("probe", "", b"")], self._names.probe))
            except BrokerUnavailableError:
                if not self.is_blocked:
                    raise
        return not self.is_blocked

    def _publish(self, messages: Sequence[Message], exchange: str) -> None:
        if self._publishing is None:
            self._publishing = self._connection.channel()
            self._publishing.confirm_select()
            self._publishing.events["basic_ack"].add(self._on_confirmed)
            self._publishing.events["basic_nack"].add(self._on_refused)
        self._refused = 0
        for one in messages:
            self._check_taking()
            self._published += 1
            self._unconfirmed.add(self._published)
            self._publishing.basic_publish(
                amqp.Message(
                    one.body,
                    content_type=CONTENT_TYPE,
                    delivery_mode=_PERSISTENT,
                    message_id=one.id,
                ),
                exchange=exchange,
                routing_key=one.routing_key,
            )
        quiet = 0
        while self._unconfirmed:
            self._check_taking()
            left = len(self._unconfirmed)
            # Not ``drain_events``, which reads heartbeats for as long as they come.
            self._connection.connection.blocking_read(_READ_TIMEOUT_S)
            quiet = 0 if len(self._unconfirmed) < left else quiet + 1
            if quiet > _MOST_QUIET:
                raise BrokerUnavailableError(f"the broker at {self._url} confirms nothing")
        if self._refused:
            raise BrokerUnavailableError(f"the broker at {self._url} refused {self._refused} messages")

    def _check_taking(self) -> None:
        if self.is_blocked:
            raise BrokerUnavailableError(
                f"the broker at {self._url} takes no messages now: memory or disk are short"
            )

    def _on_confirmed(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {one for one in self._unconfirmed if one > tag}
        else:
            self._unconfirmed.discard(tag)

    def _on_refused(self, tag: int, multiple: bool) -> None:
        before = len(self._unconfirmed)
        self._on_confirmed(tag, multiple)
        self._refused += before - len(self._unconfirmed)

    # --- consuming ---------------------------------------------------------------------------

    def consume(self) -> None:
        """Let messages of the inbox come here, not more at once than are worth one transaction."""

        def call() -> None:
            self._consuming = self._connection.channel()
            # What a sender calls its encoding may take hours to decode.
            self._consuming.auto_decode = False
            self._consuming.basic_qos(0, _PREFETCH, False)
            self._consuming.basic_consume(self._names.inbox, callback=self._on_message)

        self._guarded(call)

    def receive(self, timeout_s: float) -> list[Delivery]:
        """What has come; waits for the first message up to ``timeout_s``. Call it often: it keeps the
        connection alive, too."""

        def call() -> None:
            self._connection.heartbeat_check()
            try:
                self._connection.drain_events(timeout=timeout_s)
                while self._came and len(self._came) < _PREFETCH:
                    self._connection.drain_events(timeout=_NEXT_S)
            except TimeoutError:
                pass  # nothing more has come
            except UnicodeDecodeError:
                # A name in the next message is no text, and the client reads it no further. Tags are counted
                # for each channel, so its own is known: it is taken as an empty one, which is no event. If
                # the rest of it breaks the connection, it is rejected before, and the others come again.
                self._keep(self._last_tag + 1, _UNREADABLE, b"")

        self._guarded(call)
        found = list(self._came)
        self._came.clear()
        return found

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge. If the process dies before it, they come again."""
        failpoint("broker.messages.before_ack")
        for one in deliveries:
            self._guarded(lambda tag=one.tag: self._consuming.basic_ack(tag))  # type: ignore[misc]  # bound now
        failpoint("broker.messages.after_ack")

    def reject(self, deliveries: Sequence[Delivery]) -> None:
        """Let the broker move them to the dead ones."""
        failpoint("broker.messages.before_reject")
        for one in deliveries:
            self._guarded(
                lambda tag=one.tag: self._consuming.basic_reject(tag, requeue=False)  # type: ignore[misc]  # bound now
            )
        failpoint("broker.messages.after_reject")

    def _on_message(self, message: Any) -> None:
        info = message.delivery_info
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        # No database keeps half a character, nor each of them NUL.
        key = str(info["routing_key"]).encode("utf-8", "replace").decode().replace("\x00", "?")
        self._keep(info["delivery_tag"], key, body)

    def _keep(self, tag: int, routing_key: str, body: bytes) -> None:
        self._last_tag = tag
        self._came.append(Delivery(tag, routing_key, body))

    # --- the connection ----------------------------------------------------------------------

    def _on_blocked(self, _reason: Any) -> None:
        self.is_blocked = True

    def _on_unblocked(self, *_: Any) -> None:
        self.is_blocked = False

    def _queue(self, channel: Any, name: str, arguments: dict[str, Any]) -> None:
        channel.queue_declare(name, durable=True, auto_delete=False, exclusive=False, arguments=arguments)

    def _on_channel(self, call: Callable[[Any], T]) -> T:
        """On a channel of its own: what the broker refuses ends the channel, not the connection."""

        def on_one() -> T:
            channel = self._connection.channel()
            try:
                return call(channel)
            finally:
                if channel.is_open:
                    channel.close()

        return self._guarded(on_one)

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except amqp.NotFound:
            raise
        except amqp.AccessRefused as error:
            raise BrokerUnavailableError(
                f"the broker at {self._url} refuses this user or what it does: {error.reply_text}"
            ) from error
        except (amqp.AMQPError, KombuError, OSError, UnicodeDecodeError) as error:
            self._is_broken = True
            self.is_blocked = False  # whether it is, is known no more
            said = getattr(error, "reply_text", "") or getattr(error, "strerror", "") or str(error)
            reason = said or type(error).__name__
            raise BrokerUnavailableError(f"the broker at {self._url} does not answer: {reason}") from error
