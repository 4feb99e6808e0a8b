# SPDX-License-Identifier: Apache-2.0
"""What the management plugin of RabbitMQ says and AMQP does not: alarms of its nodes, and who consumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import httpx

from seawall.runtime.amqp_url import management_parts
from seawall.runtime.logging import get_logger

log = get_logger(__name__)

_TIMEOUT_S = 2.0
_ALARMS = {"mem_alarm": "memory", "disk_free_alarm": "disk"}
_NOT_CONFIGURED = "management_url is not set"


@dataclass(frozen=True, slots=True)
class Insight:
    """What the management plugin told; what it did not tell is unknown."""

    alarms: tuple[str, ...] | None = None
    """``memory of rabbit@host`` and the like; None is unknown."""
    consumers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """``user@host:port`` of each consumer, by queue; a queue that is not in it is unknown."""
    reason: str = _NOT_CONFIGURED
    """Why something is unknown, without any secret; empty when nothing is."""


class Management:
    """The management API at one address; thread-safe."""

    def __init__(self, url: str, *, virtual_host: str) -> None:
        """``url`` may hold a user and a password; neither is shown anywhere (I10). ``ValueError`` when it is
        no address."""
        parts = management_parts(url)
        host = parts.netloc.rpartition("@")[2]
        self._address = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self._auth = (unquote(parts.username or "guest"), unquote(parts.password or "guest"))
        self._virtual_host = quote(virtual_host, safe="")
        self._reason = ""

    def insight(self, queues: Sequence[str]) -> Insight:
        """Ask now, for some seconds at the most. Never raises: it is watched with, nothing depends on it."""
        try:
            with httpx.Client(auth=self._auth, timeout=_TIMEOUT_S) as client:
                alarms = _alarms(self._ask(client, "nodes"))
                consumers = {
                    name: found for name in queues if (found := self._consumers(client, name)) is not None
                }
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._unknown(_said(error))
        except (ValueError, AttributeError, TypeError, KeyError):
            return self._unknown("answers what is not known here")
        self._reason = ""
        return Insight(alarms, consumers, "")

    def _unknown(self, why: str) -> Insight:
        reason = f"the management plugin at {self._address} {why}"
        if reason != self._reason:
            log.warning("the broker's alarms and consumers are unknown", reason=reason)
        self._reason = reason
        return Insight(reason=reason)

    def _consumers(self, client: httpx.Client, queue: str) -> tuple[str, ...] | None:
        """None when there is no such queue."""
        try:
            found = self._ask(client, f"queues/{self._virtual_host}/{quote(queue, safe='')}")
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise
        channels = [one["channel_details"] for one in found["consumer_details"]]
        # A connection that has just ended stands there without its details for a moment.
        return tuple(f"{one['user']}@{one['peer_host']}:{one['peer_port']}" for one in channels if one)

    def _ask(self, client: httpx.Client, what: str) -> Any:
        answer = client.get(f"{self._address}/api/{what}")
        answer.raise_for_status()
        return answer.json()


def _alarms(nodes: Any) -> tuple[str, ...]:
    found = [
        f"{what} of {node['name']}" for node in nodes for alarm, what in _ALARMS.items() if node.get(alarm)
    ]
    found += [f"{node['name']} is down" for node in nodes if node["running"] is False]
    return tuple(found)


def _said(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return f"refuses this user or its password (HTTP {status}); it needs the tag monitoring"
        return f"answers with HTTP {status}"
    if isinstance(error, httpx.TimeoutException):
        return f"does not answer within {_TIMEOUT_S:g} s"
    return f"does not answer: {error or type(error).__name__}"
