# SPDX-License-Identifier: Apache-2.0
"""The addresses of a broker, apart from their passwords (I10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class AmqpUrl:
    """Where a RabbitMQ broker is. What is printed of it never holds the password."""

    host: str
    port: int
    user: str
    virtual_host: str
    is_encrypted: bool
    password: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> AmqpUrl:
        """Take an address apart. ``ValueError`` says the rule it breaks, without its text."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("must be an address like amqp://user:password@host:5672/name") from None
        if parts.scheme not in _PORTS:
            raise ValueError("must begin with amqp:// or amqps://")
        if not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an address like amqp://user:password@host:5672/name, without options")
        # As RabbitMQ reads it: no path, "/" and "//" are the virtual host that is called "/".
        name = unquote(parts.path.removeprefix("/")) or "/"
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            user=unquote(parts.username or "guest"),
            virtual_host=name,
            is_encrypted=parts.scheme == "amqps",
            password=unquote(parts.password or "guest"),
        )

    def __str__(self) -> str:
        scheme = "amqps" if self.is_encrypted else "amqp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{self.user}@{host}:{self.port}/{self.virtual_host.removeprefix('/')}"


def management_parts(text: str) -> SplitResult:
    """The parts of the management plugin's address. ``ValueError`` says the rule it breaks, without its
    text."""
    try:
        parts = urlsplit(text)
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError("must be an address like http://user:password@host:15672")
    return parts
