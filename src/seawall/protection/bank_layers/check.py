# SPDX-License-Identifier: Apache-2.0
"""``CheckBank``: after a put the store is asked how long the object is (I5).

That the bytes arrived as they were sent is for the bank below (a server compares a signed digest, a file
system is ours); that they are there, whole, under their key, is confirmed here.
"""

from __future__ import annotations

from seawall.core.errors import BankError, BankObjectMissingError
from seawall.protection.bank_layers.layer import Layer, length_of
from seawall.sdk.bank import Chunks


class CheckBank(Layer):
    """``BankError`` when an object is not as long as what was put; a put again may mend it."""

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        self._bank.put(key, content, create_only=create_only)
        expected = length_of(content)
        try:
            found = self._bank.size(key)
        except BankObjectMissingError as error:
            raise BankError(f"the bank took {key} and does not have it: {error}") from error
        if found != expected:
            raise BankError(f"the bank took {key} of {expected} bytes and has {found} of them")
