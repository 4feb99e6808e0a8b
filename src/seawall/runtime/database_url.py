# SPDX-License-Identifier: Apache-2.0
"""The address of a PostgreSQL database, apart from its password (I10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from seawall.core.errors import ConfigurationError

HIDDEN = "(hidden)"
_SECRET_OPTIONS = ("password", "sslpassword", "passfile")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where a PostgreSQL database is. What is printed of it never holds the password."""

    address: str
    """A ``postgresql://`` address without password; may be shown."""
    _password: str | None = field(default=None, repr=False)
    _password_file: Path | None = None

    @classmethod
    def parse(cls, text: str, password_file: Path | None = None) -> DatabaseUrl:
        """Take an address apart. ``ValueError`` says the rule it breaks, without its text."""
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError("must be an address like postgresql://user@host:5432/name") from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("must begin with postgresql://; leave it out for SQLite in the data folder")
        if len(parts.path) < 2 or parts.fragment:
            raise ValueError("must end in the name of a database: postgresql://user@host:5432/name")
        options = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        if any(name in _SECRET_OPTIONS for name in options):
            raise ValueError("must hold no password among its options; use database_password_file")
        user_part, at, hosts = parts.netloc.rpartition("@")
        user, colon, password = user_part.partition(":")
        if colon and password_file is not None:
            raise ValueError("must hold no password when there is a database_password_file")
        query = f"?{parts.query}" if parts.query else ""
        address = f"postgresql://{user}{at}{hosts}{parts.path}{query}"
        return cls(address, unquote(password) if colon else None, password_file)

    def password(self) -> str | None:
        """The password; read from its file each time, so that it may be changed while we run.

        None leaves it to the PostgreSQL library: its password file, or a server that asks for none.
        """
        return self._password if self._password_file is None else read_password(self._password_file)

    def __str__(self) -> str:
        return self.address


def read_password(path: Path) -> str:
    """The one line of a password file."""
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigurationError.of(
            "database_password_file", str(path), f"cannot be read: {reason}"
        ) from None
    if not text or "\n" in text:
        raise ConfigurationError.of("database_password_file", str(path), "must hold the password on one line")
    return text
