# SPDX-License-Identifier: Apache-2.0
"""What a plugin sees: the protocols of banks, protectables, protections, executors, operations.

Plugins import this package and ``core``, nothing else of Seawall. ``sdk.testing`` holds the contract
suites that every implementation runs, ours and the in-memory ones included.
"""
