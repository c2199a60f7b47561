"""A night is written without looking up, row by row, what was just read."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor sends the text as it is; SQLAlchemy's would look for parameters in it.
    op.get_bind().connection.cursor().execute(statements)
