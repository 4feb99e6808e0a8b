# SPDX-License-Identifier: Apache-2.0
"""What Alembic runs: the revisions, on the connection and in the transaction of ``upgrade``."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # The transaction is begun and committed by ``upgrade``; Alembic opens none of its own.
    transactional_ddl=False,
    render_as_batch=True,
)
context.run_migrations()
