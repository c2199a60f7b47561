"""Schema `analytics_masked`: what BI reads where it need not know persons.

Its views are generated from schema `analytics` at the end of every migration, so that a new table
or column cannot be forgotten: what nobody declared is shown as null.
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor sends the text as it is; SQLAlchemy's would look for parameters in it.
    op.get_bind().connection.cursor().execute(statements)
