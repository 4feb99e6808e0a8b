# SPDX-License-Identifier: Apache-2.0
"""What the management plugin of RabbitMQ says and AMQP does not: the alarms of its nodes."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import httpx

from seawall.runtime.logging import get_logger

log = get_logger(__name__)

_TIMEOUT_S = 2.0
_ALARMS = {"mem_alarm": "memory", "disk_free_alarm": "disk"}


class Management:
    """The management API at one address; thread-safe."""

    def __init__(self, url: str) -> None:
        """``url`` may hold a user and a password; neither is shown anywhere (I10)."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._nodes = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/api/nodes"
        self._auth = (unquote(parts.username or "guest"), unquote(parts.password or "guest"))
        self._is_known = True

    def alarms(self) -> list[str] | None:
        """``memory of rabbit@host`` and the like; None when it does not say."""
        try:
            answer = httpx.get(self._nodes, auth=self._auth, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            nodes = answer.json()
            found = [
                f"{what} of {node.get('name', 'a node')}"
                for node in nodes
                for alarm, what in _ALARMS.items()
                if node.get(alarm)
            ]
            found += [
                f"{node.get('name', 'a node')} is down" for node in nodes if node.get("running") is False
            ]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError, TypeError) as error:
            if self._is_known:
                log.warning("the broker's alarms are unknown", url=self._nodes, reason=type(error).__name__)
            self._is_known = False
            return None
        self._is_known = True
        return found
