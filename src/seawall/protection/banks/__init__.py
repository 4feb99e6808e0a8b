# SPDX-License-Identifier: Apache-2.0
"""Banks: one file each. They import ``seawall.sdk`` and ``seawall.core`` only, and nobody imports them."""
