# SPDX-License-Identifier: Apache-2.0
"""Key files: each lets one password open the master key (a key slot).

A key file lies at ``keys/<sha256 of its bytes>`` as plain JSON. New ones are made with scrypt N=2^15, r=8,
p=5, whatever the machine is busy with; others' parameters are accepted within sane bounds.
"""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from seawall.core.errors import DamagedError, NotFoundError, StateError, WrongKeyError
from seawall.repository import codec
from seawall.repository.crypto import Key, derive_key
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

PREFIX: Final = "keys/"
SCRYPT_N: Final = 2**15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 5
_MAX_WORK: Final = 2**24
"""Highest N * r * p that is tried, 13 times ours: a forged slot must not stall the service for minutes."""
_MAX_MEMORY: Final = 2**21
"""Highest N * r: 256 MiB."""
_MAX_TOTAL_WORK: Final = 2**27
"""So much is tried in all, which is about a hundred slots like ours."""
_MAX_SLOTS: Final = 1000


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key slot, without anything secret."""

    id: str
    hostname: str
    username: str
    created: str


def _text(key: Key) -> bytes:
    encode = base64.b64encode
    return orjson.dumps(
        {
            "mac": {"k": encode(key.mac_k).decode(), "r": encode(key.mac_r).decode()},
            "encrypt": encode(key.encrypt_key).decode(),
        }
    )


def add(bank: Bank, master: Key, password: str, *, hostname: str, now: datetime) -> str:
    """Store a key slot for ``password``; its id. Durable on return."""
    salt = os.urandom(64)
    slot = derive_key(password, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    content = orjson.dumps(
        {
            "created": now.isoformat().replace("+00:00", "Z"),
            "username": "seawall",
            "hostname": hostname,
            "kdf": "scrypt",
            "N": SCRYPT_N,
            "r": SCRYPT_R,
            "p": SCRYPT_P,
            "salt": base64.b64encode(salt).decode(),
            "data": base64.b64encode(slot.seal(_text(master))).decode(),
        }
    )
    name = codec.content_id(content).hex()
    failpoint("repository.key.before_put")
    bank.put(PREFIX + name, content)
    failpoint("repository.key.after_put")
    return name


def _parse(content: bytes, what: str) -> dict[str, Any]:
    value = codec.parse_json(content, what)
    if not isinstance(value, dict):
        raise DamagedError(f"{what}: holds {type(value).__name__}, expected an object")
    return value


@dataclass(frozen=True, slots=True)
class _Slot:
    """A key slot whose parameters are sane."""

    id: str
    n: int
    r: int
    p: int
    salt: bytes
    data: bytes

    @property
    def work(self) -> int:
        return self.n * self.r * self.p


def _slot(name: str, slot: Mapping[str, Any], what: str) -> _Slot:
    try:
        n, r, p = int(slot["N"]), int(slot["r"]), int(slot["p"])
        found = _Slot(name, n, r, p, base64.b64decode(slot["salt"]), base64.b64decode(slot["data"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{what}: lacks a usable N, r, p, salt or data: {error!r}") from None
    is_sane = n >= 2 and not n & (n - 1) and r >= 1 and p >= 1 and n.bit_length() <= 16 * r
    if slot.get("kdf") != "scrypt" or not is_sane or n * r > _MAX_MEMORY or found.work > _MAX_WORK:
        shown = f"{str(slot.get('kdf'))[:20]} N={n} r={r} p={p}"
        raise DamagedError(f"{what}: key derivation {shown} is not accepted")
    return found


def _open_slot(slot: _Slot, password: str, what: str) -> Key | None:
    try:
        text = derive_key(password, salt=slot.salt, n=slot.n, r=slot.r, p=slot.p).open(slot.data, what)
    except DamagedError:
        return None  # a wrong password and a damaged slot look the same: the tag does not fit
    try:
        inner = codec.parse_json(text, what)
        mac = inner["mac"]
        return Key(*(base64.b64decode(part) for part in (inner["encrypt"], mac["k"], mac["r"])))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{what}: holds no master key: {error!r}") from None


def find_master(bank: Bank, password: str, config: bytes) -> tuple[Key, str]:
    """The master key and the id of the slot that ``password`` opens.

    The key must open ``config`` too: a killed ``init`` may have left a slot of another master key behind.
    ``WrongKeyError`` when no slot opens. A slot that is damaged, or whose key does not fit, is passed over
    while another opens; when none does, ``DamagedError`` names the first such slot.
    """
    damaged: DamagedError | None = None
    slots = []
    for name, content in _contents(bank):
        try:
            slots.append(_slot(name, _parse(content, _what(name)), _what(name)))
        except DamagedError as error:
            damaged = damaged or error
    work = 0
    for slot in sorted(slots, key=lambda one: one.work):  # the cheap ones first, so that no other delays them
        work += slot.work
        if work > _MAX_TOTAL_WORK:
            damaged = DamagedError(f"there are {len(slots)} key slots, too many to try them all")
            break
        try:
            master = _open_slot(slot, password, _what(slot.id))
            if master is not None:
                master.open(config, f"config, opened with {_what(slot.id)}")
                return master, slot.id
        except DamagedError as error:
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    raise WrongKeyError(f"none of the {len(slots)} key slots of the repository opens with this password")


def _what(name: str) -> str:
    return f"key {name[:16]}"


def _contents(bank: Bank) -> Iterator[tuple[str, bytes]]:
    """Id and bytes of every key slot; ``DamagedError`` when there are more than anybody makes."""
    for number, item in enumerate(list(itertools.islice(bank.list(PREFIX), _MAX_SLOTS + 1))):
        if number == _MAX_SLOTS:
            raise DamagedError(f"there are more than {_MAX_SLOTS} key slots")
        name = item.key.removeprefix(PREFIX)
        yield name, codec.fetch(bank, item.key, _what(name), limit=codec.SMALL_OBJECT_BYTES)


def infos(bank: Bank) -> list[KeyInfo]:
    """The key slots, sorted by id."""
    found = []
    for name, content in _contents(bank):
        slot = _parse(content, _what(name))
        found.append(
            KeyInfo(
                name,
                str(slot.get("hostname", "")),
                str(slot.get("username", "")),
                str(slot.get("created", "")),
            )
        )
    return found


def remove(bank: Bank, key_id: str) -> None:
    """Remove a slot; ``StateError`` for the last one, since nobody could open the repository any more."""
    names = [item.key.removeprefix(PREFIX) for item in bank.list(PREFIX)]
    if key_id not in names:
        raise NotFoundError(f"the repository has no key slot {key_id}")
    if len(names) == 1:
        raise StateError(f"key slot {key_id} is the last one; add another before removing it")
    failpoint("repository.key.before_delete")
    bank.delete(PREFIX + key_id)
    failpoint("repository.key.after_delete")
