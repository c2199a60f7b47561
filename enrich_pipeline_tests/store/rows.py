"""Rows of the operational tables, put in directly: what earlier stages would have left behind."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection, text

import enrich_pipeline
from enrich_pipeline.domain.policy import Policy


def default_policy(**changes: Any) -> Policy:
    """The packaged configuration with some of its top-level entries replaced."""
    path = Path(enrich_pipeline.__file__).with_name("defaults.yaml")
    return Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) | changes)


def insert(conn: Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows into `enrichment.<table>`; columns that a row leaves out take their defaults."""
    if not rows:
        return
    columns = list(dict.fromkeys(name for row in rows for name in row))
    names = ", ".join(columns)
    statement = (
        f"insert into enrichment.{table} ({names}) overriding system value "  # noqa: S608
        f"select {names} from jsonb_populate_recordset("
        f"cast(null as enrichment.{table}), cast(:r as jsonb))"
    )
    conn.execute(text(statement), {"r": json.dumps(rows, default=_plain)})


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def person(conn: Connection, person_id: int, **columns: Any) -> None:
    insert(conn, "persons", [{"person_id": person_id, **columns}])


def contact(conn: Connection, contact_id: str, person_id: int | None, **columns: Any) -> None:
    row = {
        "contact_id": contact_id,
        "person_id": person_id,
        "source_hash": "",
        "source_key": contact_id,
        **columns,
    }
    insert(conn, "contacts", [row])


def call(conn: Connection, call_id: int, provider: str, day: date, **columns: Any) -> None:
    row = {
        "call_id": call_id,
        "provider": provider,
        "call_group": "",
        "state": "settled",
        "partition_date": day,
        "batch": 0,
        "spend_date": day,
        "run_id": "run",
        "persons": 1,
        "hold_micro": 0,
        "prices": {},
        "usd_micro_per_credit": 10_000,
        "lease_until": "2026-01-01T00:00:00Z",
        **columns,
    }
    insert(conn, "calls", [row])


def line(
    conn: Connection, line_id: int, call_id: int, person_id: int, provider: str, **columns: Any
) -> None:
    row = {
        "line_id": line_id,
        "call_id": call_id,
        "item_key": str(line_id),
        "person_id": person_id,
        "provider": provider,
        "product": "match",
        "fields": ["work_email", "profile"],
        "state": "posted",
        "hold_micro": 0,
        "hold_usd_micro": 0,
        **columns,
    }
    insert(conn, "charge_lines", [row])


def enrichment(
    conn: Connection, enrichment_id: int, person_id: int, field: str, day: date, **columns: Any
) -> None:
    row = {
        "enrichment_id": enrichment_id,
        "person_id": person_id,
        "field": field,
        "cycle": 1,
        "state": "finished",
        "result": "found",
        "waterfall": ["prospeo"],
        "partition_date": day,
        "batch": 0,
        "opened_at": f"{day}T00:00:00Z",
        "closed_at": f"{day}T01:00:00Z",
        **columns,
    }
    insert(conn, "enrichments", [row])


def attempt(
    conn: Connection,
    attempt_id: int,
    enrichment_id: int,
    person_id: int,
    field: str,
    provider: str,
    day: date,
    **columns: Any,
) -> None:
    row = {
        "attempt_id": attempt_id,
        "enrichment_id": enrichment_id,
        "person_id": person_id,
        "field": field,
        "provider": provider,
        "try": 1,
        "position": 1,
        "outcome": "found",
        "partition_date": day,
        "batch": 0,
        "run_id": "run",
        **columns,
    }
    insert(conn, "attempts", [row])


def observation(
    conn: Connection,
    observation_id: int,
    person_id: int,
    attribute: str,
    value: str | None,
    provider: str,
    line_id: int,
    observed_at: datetime,
    **columns: Any,
) -> None:
    row = {
        "observation_id": observation_id,
        "person_id": person_id,
        "attribute": attribute,
        "value": value,
        "status": "verified",
        "provider": provider,
        "call_id": 1,
        "line_id": line_id,
        "observed_at": observed_at,
        "recorded_at": observed_at,
        **columns,
    }
    insert(conn, "observations", [row])


def ledger_entry(
    conn: Connection,
    entry_id: int,
    call_id: int,
    provider: str,
    day: date,
    *,
    debit: int,
    credit: int,
    micro: int,
    usd: int,
    entry_type: str = "post",
) -> None:
    row = {
        "entry_id": entry_id,
        "entry_key": f"{call_id}:submit:{entry_type}:{entry_id}",
        "entry_type": entry_type,
        "provider": provider,
        "debit_account": debit,
        "credit_account": credit,
        "amount_micro": micro,
        "amount_usd_micro": usd,
        "cost_source": "reported",
        "call_id": call_id,
        "occurred_at": f"{day}T02:00:00Z",
        "partition_date": day,
        "batch": 0,
    }
    insert(conn, "ledger_entries", [row])
