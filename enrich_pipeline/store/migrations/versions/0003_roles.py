"""Roles: who owns, who works, who receives, who reads.

Roles belong to the server and have no login: a login of your own becomes a member of one of them
(`CREATE ROLE nightly LOGIN PASSWORD '...' IN ROLE enrich_pipeline`) and goes into
ENRICH_DATABASE_URL. Where roles may not be created the migration says so and goes on.
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor sends the text as it is; SQLAlchemy's would look for parameters in it.
    op.get_bind().connection.cursor().execute(statements)
