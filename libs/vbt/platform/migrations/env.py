"""Alembic runs inside the transaction that ``open_state`` holds, so that a start that fails changes nothing."""

from __future__ import annotations

from alembic import context

from vbt.platform.state import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
