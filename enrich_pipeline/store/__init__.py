"""All access to PostgreSQL: connections, migrations and one module of statements per subject."""
