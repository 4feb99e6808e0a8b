# SPDX-License-Identifier: Apache-2.0
"""Seawall: a self-running data-protection service."""

__version__ = "0.1.0"
