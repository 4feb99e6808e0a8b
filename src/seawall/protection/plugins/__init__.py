# SPDX-License-Identifier: Apache-2.0
"""Protections: one file each; they read and write the bytes of one resource type, inside a mover.

They import ``seawall.sdk`` and ``seawall.core`` only, and nobody imports them. The contract suite is
``seawall.sdk.testing.protection_suite``.
"""
