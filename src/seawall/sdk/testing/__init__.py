# SPDX-License-Identifier: Apache-2.0
"""Contract suites for every kind of plugin, and the fake clock. Imported by tests only."""
