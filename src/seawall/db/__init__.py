# SPDX-License-Identifier: Apache-2.0
"""The only place with SQL: tables, migrations, transactions, and functions per aggregate.

Called by the engine, protection and wiring. A function takes a transaction (``Tx``) or a connection, and
its time from it; it returns values of ``core.records``. Guarantees I2 (a transaction is one commit) and the
compare-and-set moves of I3. Knows nothing of HTTP, plugins or banks.
"""
