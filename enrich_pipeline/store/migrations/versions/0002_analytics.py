"""Schema `analytics`: what BI reads. Tables that `publish` keeps, views over the operations.

Every relation and column carries its grain and unit as a comment, so that a BI tool shows them.
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor sends the text as it is; SQLAlchemy's would look for parameters in it.
    op.get_bind().connection.cursor().execute(statements)
