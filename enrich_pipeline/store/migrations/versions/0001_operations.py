"""Schemas `crm` and `enrichment`: contacts, persons, the plan, calls, the ledger.

Settled here because they cannot be changed later without a redesign: charge lines are the unit of
settlement, answers are kept per (person, provider, product, options), enrichments have cycles, a
night's plan is written once per date, and persons carry a lifelong bucket.
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver's own cursor sends the text as it is; SQLAlchemy's would look for parameters in it.
    op.get_bind().connection.cursor().execute(statements)
