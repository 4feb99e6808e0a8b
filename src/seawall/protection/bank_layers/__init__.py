# SPDX-License-Identifier: Apache-2.0
"""Layers wrap a bank and are a bank: what every bank needs and no plugin has to do itself."""
