# SPDX-License-Identifier: Apache-2.0
"""The executors that Seawall brings: each module is a plugin, chosen by the setting ``executor`` (M9)."""
