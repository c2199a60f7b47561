"""Nightly enrichment of CRM contacts over paid providers; what was paid is kept in PostgreSQL.

Nothing is exported here: importing the package must stay cheap and free of effects.
"""
