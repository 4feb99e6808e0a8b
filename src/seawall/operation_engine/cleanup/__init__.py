# SPDX-License-Identifier: Apache-2.0
"""The automatic clean-up: deletes what has expired, whether or not a backup runs (M6)."""

from seawall.operation_engine.cleanup.cleaning import CleanUp

__all__ = ["CleanUp"]
