"""Alembic's entry point: runs migrations on the connection that `migrate.upgrade` hands over.

Locking, schemas and the transaction belong to `migrate`, not here.
"""

from alembic import context

from enrich_pipeline.store import revision

context.configure(
    connection=context.config.attributes["connection"],
    version_table=revision.TABLE,
    version_table_schema=revision.SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
