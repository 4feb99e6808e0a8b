# SPDX-License-Identifier: Apache-2.0
"""What protection asks of the parts that it does not know; bound in ``wiring``."""

from __future__ import annotations

from typing import Protocol


class RunHost(Protocol):
    """Claims the runs that this host may carry out, and carries them out (the dispatcher)."""

    def start(self, service_id: int) -> object:
        """Take back what the former process of this service had claimed (M4), then claim and run."""
        ...

    def stop(self, grace_s: float) -> object:
        """Finish what runs within the grace, or hand it back."""
        ...
