"""Revision 0003: a request for a step names one case, also where two equal requests come at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request",
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("request_key", name="pk_request"),
    )
    op.execute(
        "INSERT INTO request (request_key, case_id) "
        "SELECT study_key, MIN(case_id) FROM \"case\" WHERE study_key LIKE 'request:%' GROUP BY study_key"
    )
