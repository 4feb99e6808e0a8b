# SPDX-License-Identifier: Apache-2.0
"""Key files: each lets one password open the master key (a key slot).

A key file lies at ``keys/<sha256 of its bytes>`` as plain JSON. New ones are made with scrypt N=2^15, r=8,
p=5, whatever the machine is busy with; others' parameters are accepted within sane bounds.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
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
_MAX_WORK: Final = 2**26
"""Highest N * r * p that is tried: a forged key file must not stall the service for minutes."""


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
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"{what}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{what}: holds {type(value).__name__}, expected an object")
    return value


def _open_slot(slot: Mapping[str, Any], password: str, what: str) -> Key | None:
    try:
        n, r, p = int(slot["N"]), int(slot["r"]), int(slot["p"])
        salt, data = base64.b64decode(slot["salt"]), base64.b64decode(slot["data"])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise DamagedError(f"{what}: lacks a usable N, r, p, salt or data: {error!r}") from None
    if slot.get("kdf") != "scrypt" or n < 2 or n & (n - 1) or r < 1 or p < 1 or n * r * p > _MAX_WORK:
        raise DamagedError(f"{what}: key derivation {slot.get('kdf')} N={n} r={r} p={p} is not accepted")
    try:
        text = derive_key(password, salt=salt, n=n, r=r, p=p).open(data, what)
    except DamagedError:
        return None  # a wrong password and a damaged slot look the same: the tag does not fit
    try:
        inner = orjson.loads(text)
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
    slots = 0
    for item in bank.list(PREFIX):
        what = f"key {item.key.removeprefix(PREFIX)[:16]}"
        slots += 1
        try:
            master = _open_slot(_parse(bank.get(item.key), what), password, what)
            if master is not None:
                master.open(config, f"config, opened with {what}")
                return master, item.key.removeprefix(PREFIX)
        except DamagedError as error:
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    raise WrongKeyError(f"none of the {slots} key slots of the repository opens with this password")


def infos(bank: Bank) -> list[KeyInfo]:
    """The key slots, sorted by id."""
    found = []
    for item in bank.list(PREFIX):
        name = item.key.removeprefix(PREFIX)
        slot = _parse(bank.get(item.key), f"key {name[:16]}")
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
