# SPDX-License-Identifier: Apache-2.0
"""The cipher of the repository format: AES-256-CTR with a Poly1305-AES tag.

A sealed message is ``nonce (16) | ciphertext | tag (16)``. A ``Key`` may be used from many threads: each
thread keeps its own cipher contexts, so that a blob costs no key schedule.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.poly1305 import Poly1305

from seawall.core.errors import DamagedError

NONCE_BYTES = 16
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
Read = Callable[[int, int], bytes | memoryview]
PIECE_BYTES = 1024 * 1024
"""What is sealed or opened piece by piece goes in pieces of about this length."""


class _Contexts(threading.local):
    """The cipher contexts of one thread."""

    def __init__(self, encrypt: bytes, mac_k: bytes) -> None:
        self.stream = Cipher(algorithms.AES(encrypt), modes.CTR(bytes(16))).encryptor()
        # One block at a time with a key of its own: this is the AES of Poly1305-AES, not a cipher mode.
        self.block = Cipher(algorithms.AES(mac_k), modes.ECB()).encryptor()


class Key:
    """An encryption key (32 bytes) and a tag key (two times 16 bytes)."""

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None:
        if (len(encrypt), len(mac_k), len(mac_r)) != (32, 16, 16):
            raise DamagedError("the key has parts of a wrong length: expected 32, 16 and 16 bytes")
        self.encrypt_key = encrypt
        self.mac_k = mac_k
        self.mac_r = mac_r
        self._contexts = _Contexts(encrypt, mac_k)

    @classmethod
    def random(cls) -> Key:
        """A new key from the system's random source."""
        return cls(os.urandom(32), os.urandom(16), os.urandom(16))

    def seal(self, message: bytes | memoryview) -> bytes:
        """Encrypt and tag; the result is 32 bytes longer."""
        nonce = os.urandom(NONCE_BYTES)
        contexts = self._contexts
        contexts.stream.reset_nonce(nonce)
        text = contexts.stream.update(message)
        tag = Poly1305.generate_tag(self.mac_r + contexts.block.update(nonce), text)
        return b"".join((nonce, text, tag))

    def open(self, sealed: bytes | memoryview, what: str) -> bytes:
        """Check the tag and decrypt; ``DamagedError`` naming ``what`` when the tag is wrong."""
        view = memoryview(sealed)
        if len(view) < OVERHEAD_BYTES:
            raise DamagedError(f"{what}: {len(view)} bytes are too short to be sealed data")
        nonce = bytes(view[:NONCE_BYTES])
        text = view[NONCE_BYTES:-TAG_BYTES]
        contexts = self._contexts
        try:
            Poly1305.verify_tag(self.mac_r + contexts.block.update(nonce), text, bytes(view[-TAG_BYTES:]))
        except InvalidSignature:
            raise DamagedError(f"{what}: the bytes are not what was written (wrong tag)") from None
        contexts.stream.reset_nonce(nonce)
        return contexts.stream.update(text)

    def open_pieces(self, read: Read, length: int, what: str) -> Iterator[bytes]:
        """As ``open``, in pieces; the tag of the whole is checked before this returns.

        ``read`` gives the bytes of the sealed message from one place up to another, the same each time.
        """
        if length < OVERHEAD_BYTES:
            raise DamagedError(f"{what}: {length} bytes are too short to be sealed data")
        nonce, end = bytes(read(0, NONCE_BYTES)), length - TAG_BYTES
        tag = Poly1305(self.mac_r + self._contexts.block.update(nonce))
        pieces = [(at, min(at + PIECE_BYTES, end)) for at in range(NONCE_BYTES, end, PIECE_BYTES)]
        for piece in pieces:
            tag.update(read(*piece))
        try:
            tag.verify(bytes(read(end, length)))
        except InvalidSignature:
            raise DamagedError(f"{what}: the bytes are not what was written (wrong tag)") from None
        stream = Cipher(algorithms.AES(self.encrypt_key), modes.CTR(nonce)).decryptor()
        return (stream.update(read(*piece)) for piece in pieces)

    def derive(self, purpose: str) -> bytes:
        """32 bytes that depend on this key and a purpose, and tell nothing about the key."""
        return hmac.digest(self.encrypt_key, b"seawall:" + purpose.encode(), hashlib.sha256)


class Sealing:
    """Seals one message piece by piece. ``parts`` together are the sealed message once it is finished."""

    def __init__(self, key: Key) -> None:
        nonce = os.urandom(NONCE_BYTES)
        self._stream = Cipher(algorithms.AES(key.encrypt_key), modes.CTR(nonce)).encryptor()
        block = Cipher(algorithms.AES(key.mac_k), modes.ECB()).encryptor()  # as in ``_Contexts``
        self._tag = Poly1305(key.mac_r + block.update(nonce))
        self.parts = [nonce]

    def add(self, piece: bytes) -> None:
        """Seal a further piece."""
        text = self._stream.update(piece)
        self._tag.update(text)
        self.parts.append(text)

    def finish(self) -> list[bytes]:
        """The sealed message in parts; nothing may be added any more."""
        self.parts.append(self._tag.finalize())
        return self.parts


def derive_key(password: str, *, salt: bytes, n: int, r: int, p: int) -> Key:
    """The key that a password opens a key file with (scrypt)."""
    raw = Scrypt(salt=salt, length=64, n=n, r=r, p=p).derive(password.encode())
    return Key(raw[:32], raw[32:48], raw[48:])
