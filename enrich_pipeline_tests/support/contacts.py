"""Contacts, configuration and answers that tests write down in a few words."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import yaml
from sqlalchemy import Engine, text

from enrich_pipeline.domain.policy import Policy

NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
"""The moment at which these tests happen."""


def policy(**changes: Mapping[str, Any]) -> Policy:
    """The packaged defaults with whole sections changed: `policy(refresh={"batches": 2})`."""
    content = yaml.safe_load(files("enrich_pipeline").joinpath("defaults.yaml").read_text())
    known = {name: content[name] for name in Policy.model_fields}
    for section, values in changes.items():
        for name, value in values.items():
            is_nested = isinstance(value, Mapping) and isinstance(known[section].get(name), dict)
            known[section][name] = {**known[section][name], **value} if is_nested else value
    return Policy.model_validate(known)


def put_contacts(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows into `crm.contacts` as they are; columns that a row lacks are null."""
    parameters = {"rows": json.dumps(list(rows), default=str)}
    with engine.begin() as conn:
        for statement in (
            """
            delete from crm.contacts as c
            using jsonb_to_recordset(cast(:rows as jsonb)) as r(contact_id text)
            where r.contact_id = c.contact_id
            """,
            """
            insert into crm.contacts
            select * from jsonb_populate_recordset(
                cast(null as crm.contacts), cast(:rows as jsonb))
            """,
        ):
            conn.execute(text(statement), parameters)


def rows_of(engine: Engine, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a statement as plain tuples."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(statement), parameters)]
