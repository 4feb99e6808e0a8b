# SPDX-License-Identifier: Apache-2.0
"""Opening a bank: the plugin, and the layers that its place and the provider's file ask for.

From the inside: the plugin, limits, check, retry. Each try keeps the limits; what the check finds is tried
again. A bank that is a folder of this host is neither checked nor repeated: it is durable when ``put``
returns, and its errors do not pass by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from seawall.protection.bank_layers.adopted import AdoptedBank
from seawall.protection.bank_layers.check import CheckBank
from seawall.protection.bank_layers.limit import LimitBank
from seawall.protection.bank_layers.retry import ATTEMPTS, RetryBank
from seawall.sdk.bank import Bank
from seawall.sdk.clock import Clock

LIMITS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "upload_bytes_per_s": {"type": "integer", "minimum": 1024},
        "download_bytes_per_s": {"type": "integer", "minimum": 1024},
        "connections": {"type": "integer", "minimum": 1, "maximum": 256},
        "attempts": {"type": "integer", "minimum": 1, "maximum": 20},
    },
    "additionalProperties": False,
}
"""JSON schema of ``limits`` in a provider's file."""


def open_bank(
    plugin: type[Bank],
    options: Mapping[str, Any],
    limits: Mapping[str, Any],
    clock: Clock,
    *,
    adopted: str | None = None,
) -> Bank:
    """The bank with its layers; touches no store. The caller closes it.

    ``adopted`` is the id of the repository that lies at its root.
    """
    bank = plugin(**options)
    is_local = bank.features.local_path is not None
    pace = {name: value for name, value in limits.items() if name != "attempts"}
    if pace:
        bank = LimitBank(bank, clock, **pace)
    if not is_local:
        bank = CheckBank(bank)
    attempts = limits.get("attempts", 1 if is_local else ATTEMPTS)
    if attempts > 1:
        bank = RetryBank(bank, clock, attempts=attempts)
    return bank if adopted is None else AdoptedBank(bank, adopted)
