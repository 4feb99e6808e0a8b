# SPDX-License-Identifier: Apache-2.0
"""The install key: everything secret in the database is sealed under it (I10).

The key is one line in a file of its owner (0600). Whoever has the database alone reads no secret. A sealed
text names the key it was sealed under and is bound to its purpose: it opens nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from seawall.core.errors import ConfigurationError, DamagedError, WrongKeyError
from seawall.runtime.folder import write_private

_PREFIX: Final = "seawall-install-key-1"
_FORMAT: Final = "s1"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
# More than a key file ever holds; a wrong file must not be read whole.
_MOST_BYTES: Final = 4096


class InstallKey:
    """The key of one installation; thread-safe."""

    def __init__(self, key: bytes, source: str = "the install key") -> None:
        """``source`` says in errors which key this is."""
        if len(key) != _KEY_BYTES:
            raise ConfigurationError.of("install_key", source, f"must hold a key of {_KEY_BYTES} bytes")
        self._cipher = AESGCM(key)
        self._source = source
        self._id = hmac.digest(key, b"seawall:install-key-id", hashlib.sha256)[:4].hex()

    @classmethod
    def load_or_create(cls, path: Path) -> InstallKey:
        """The key in this file; a new one when there is no such file.

        A file that exists is never replaced, whatever stands in it. If the process dies here, the file is
        there whole or not at all. Callers hold the lock of the set-up, so that only one makes it.
        ``ConfigurationError`` when others can read it or it holds no key.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            write_private(path, _as_text(os.urandom(_KEY_BYTES)))
            return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> InstallKey:
        """The key in this file; ``FileNotFoundError`` when there is none."""
        return cls(_from_text(_read_private(path), path), str(path))

    def __repr__(self) -> str:
        return f"InstallKey({self._source!r})"

    def seal(self, secret: str, *, purpose: str) -> str:
        """The secret as text that only this key, asked for the same purpose, opens again."""
        nonce = os.urandom(_NONCE_BYTES)
        text = self._cipher.encrypt(nonce, secret.encode(), self._bound(purpose))
        return f"{_FORMAT}.{self._id}.{base64.urlsafe_b64encode(nonce + text).decode()}"

    def open(self, sealed: str, *, purpose: str) -> str:
        """What was sealed.

        ``WrongKeyError`` when it was sealed under another install key; ``DamagedError`` when it is not what
        was written, or was sealed for another purpose.
        """
        form, _, rest = sealed.partition(".")
        key_id, _, body = rest.partition(".")
        if form != _FORMAT or not body:
            raise DamagedError(f"the sealed {purpose} is not a sealed text")
        if key_id != self._id:
            raise WrongKeyError(
                f"the {purpose} was sealed under another install key than that of {self._source}",
                hint="put the install key back that belongs to this database, or use `seawall recover`",
            )
        try:
            raw = base64.b64decode(body, altchars=b"-_", validate=True)
            secret = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._bound(purpose))
            return secret.decode()
        except (binascii.Error, InvalidTag, ValueError):
            # Without the cause: its text may hold pieces of what is secret.
            raise DamagedError(
                f"the sealed {purpose} is not what was written, or stands where it does not belong",
                hint="restore the database from a copy, or use `seawall recover`",
            ) from None

    def _bound(self, purpose: str) -> bytes:
        return f"seawall:{_FORMAT}:{self._id}:{purpose}".encode()


def _as_text(key: bytes) -> str:
    return f"{_PREFIX}:{key.hex()}:{_check(key)}\n"


def _check(key: bytes) -> str:
    """Shows that a file was cut or edited, before anything is opened with a key that never was."""
    return hashlib.sha256(b"seawall:install-key-check:" + key).hexdigest()[:8]


def _from_text(text: bytes, path: Path) -> bytes:
    parts = text.decode("ascii", "replace").strip().split(":")
    try:
        prefix, digits, check = parts
        key = bytes.fromhex(digits)
    except ValueError:
        prefix, key, check = "", b"", ""
    if prefix != _PREFIX or len(key) != _KEY_BYTES or not hmac.compare_digest(check, _check(key)):
        raise ConfigurationError.of(
            "install_key",
            str(path),
            "holds no whole install key: it is cut, edited or another file; put the right one back (it is "
            "never made anew while this file exists, for what is sealed would be lost)",
        )
    return key


def _read_private(path: Path) -> bytes:
    """The content of a file that only its owner can read; checked on the descriptor that is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        rule = f"cannot be read: {error.strerror} (it must be a file, not a symbolic link)"
        raise ConfigurationError.of("install_key", str(path), rule) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError.of("install_key", str(path), "must be a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise ConfigurationError.of("install_key", str(path), "must belong to the user that runs this")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError.of(
                "install_key", str(path), f"must be closed to others: chmod 600 {path}"
            )
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
