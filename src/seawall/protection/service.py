# SPDX-License-Identifier: Apache-2.0
"""ProtectionService: the process part that carries out runs on this host (M4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from seawall.protection.movers.pool import MoverPool
    from seawall.protection.ports import RunHost


class ProtectionService:
    """``seawall-protection``: takes back what this host left unfinished, then carries out runs."""

    binary: ClassVar[str] = "seawall-protection"

    def __init__(self, run_host: RunHost, movers: MoverPool, *, grace_s: float) -> None:
        self._run_host = run_host
        self._movers = movers
        self._grace_s = grace_s

    def init_host(self, *, service_id: int) -> None:
        """Remove what movers of a killed process left, their locks too, and take back this host's runs."""
        self._movers.clear_scratch()
        self._movers.warm()
        self._run_host.start(service_id)

    def cleanup_host(self) -> None:
        """Let running work end within the grace, hand the rest back, end the movers."""
        try:
            self._run_host.stop(self._grace_s)
        finally:
            self._movers.close()
