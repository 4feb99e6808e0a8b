# SPDX-License-Identifier: Apache-2.0
"""Protection: what carries out runs on a host, and everything that touches a bank.

Called by the dispatcher through ``sdk.operation.Protection`` and by the API through the catalogue. Bytes move
only in mover processes. It keeps I5, I6, I8-I12 (docs/invariants.md).
"""
