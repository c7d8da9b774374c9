"""Scenarios and their versions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "scenario",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_scenario"),
    )
    op.create_table(
        "version",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("scenario_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("tags", sa.String(500), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("scenario_hash", sa.String(64), nullable=False),
        sa.Column("shardwise_version", sa.String(50), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_version"),
        sa.ForeignKeyConstraint(
            ["scenario_id"], ["scenario.id"], name="fk_version_scenario_id_scenario"
        ),
        sa.UniqueConstraint("scenario_id", "number", name="uq_version_scenario_id"),
    )
    op.create_index("ix_version_scenario_id", "version", ["scenario_id"])
    op.create_index("ix_version_scenario_hash", "version", ["scenario_hash"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("version")
    op.drop_table("scenario")
