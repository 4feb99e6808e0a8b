# SPDX-License-Identifier: Apache-2.0
"""Protectables: one file each; they find resources of their type and say whether one can be protected.

They import ``seawall.sdk`` and ``seawall.core`` only, and nobody imports them. The contract suite is
``seawall.sdk.testing.protectable_suite``.
"""
