# SPDX-License-Identifier: Apache-2.0
"""The config file: which format version a repository has, its id, and the polynomial that restic cuts with.

It is stored sealed, as plain JSON in every format version, at the key ``config``. Seawall cuts by other means
(``chunker``), yet a valid polynomial must stand here, or restic refuses the repository.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Final

import orjson

from seawall.core.errors import BankObjectMissingError, ConflictError, DamagedError, InvalidInputError
from seawall.repository import codec
from seawall.repository.crypto import Key
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

NAME: Final = "config"
VERSION: Final = 2
_DEGREE: Final = 53


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file says."""

    id: str
    version: int
    chunker_polynomial: str


def _remainder(value: int, modulus: int) -> int:
    width = modulus.bit_length()
    while value.bit_length() >= width:
        value ^= modulus << (value.bit_length() - width)
    return value


def _times(left: int, right: int, modulus: int) -> int:
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        right >>= 1
    return _remainder(product, modulus)


def is_irreducible(polynomial: int) -> bool:
    """Whether a polynomial over GF(2), given by its bits, has no divisor but itself and one.

    Ben-Or's test: for every i up to half the degree, x^(2^i) - x has no divisor in common with it.
    """
    power = 2
    for _ in range((polynomial.bit_length() - 1) // 2):
        power = _times(power, power, polynomial)
        left, right = polynomial, power ^ 2
        while right:
            left, right = right, _remainder(left, right)
        if left != 1:
            return False
    return True


def random_polynomial() -> int:
    """A random irreducible polynomial of degree 53 (one in about 27 odd ones is)."""
    while True:
        candidate = (1 << _DEGREE) | secrets.randbits(_DEGREE) | 1
        if is_irreducible(candidate):
            return candidate


def create(bank: Bank, key: Key) -> Config:
    """Write the config of a new repository; ``ConflictError`` if there is one already."""
    if bank.exists(NAME):
        raise ConflictError("the bank already holds a repository at this place")
    made = Config(os.urandom(32).hex(), VERSION, f"{random_polynomial():x}")
    content = orjson.dumps(
        {"version": made.version, "id": made.id, "chunker_polynomial": made.chunker_polynomial}
    )
    failpoint("repository.config.before_put")
    bank.put(NAME, key.seal(content), create_only=bank.features.conditional_create)
    failpoint("repository.config.after_put")
    return made


def fetch(bank: Bank) -> bytes:
    """Its sealed bytes."""
    return codec.fetch(bank, NAME, "config", limit=codec.SMALL_OBJECT_BYTES)


def load(bank: Bank, key: Key) -> Config:
    """Read the config; ``InvalidInputError`` for a format version that is not 2."""
    value = codec.unpack_object(key.open(fetch(bank), "config"), "config")
    try:
        found = Config(str(value["id"]), int(str(value["version"])), str(value["chunker_polynomial"]))
    except (KeyError, ValueError) as error:
        raise DamagedError(f"config: lacks a usable id, version or polynomial: {error!r}") from None
    if found.version != VERSION:
        raise InvalidInputError.of(
            "repository.version",
            found.version,
            "must be 2; `restic migrate upgrade_repo_v2` upgrades version 1",
        )
    return found


def confirm(bank: Bank) -> None:
    """``BankObjectMissingError`` when the repository is no longer at its place.

    A bank that is not mounted any more looks empty: what is then written would be hidden by the next mount,
    and what is looked for would seem to be lost. So whoever writes, deletes or finds nothing asks.
    """
    try:
        bank.get(NAME)
    except BankObjectMissingError as error:
        raise BankObjectMissingError(f"the repository is gone from its bank: {error}") from error
