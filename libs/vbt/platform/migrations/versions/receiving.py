"""Revision 0002: where the trace of a study that is being received stands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "receiving",
        sa.Column("study_key", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.Column("associations", sa.Text(), nullable=False),
        sa.Column("revision_traceparent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", name="pk_receiving"),
    )
