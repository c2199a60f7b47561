"""The database of the model campaign: one for all examples, emptied between them, read as a whole.

What the tables say is told in the words of the model, one statement for everything.
"""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.intake.load import load_file
from enrich_pipeline.settings import Settings
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection, locks, opening
from enrich_pipeline.waterfall.planning import write_plan

from ..support.lab import configuration, contact
from ..support.sandbox import PROVIDERS
from .ground import Ground
from .model_said import PRICES

MEMBERS = 4
"""Humans; the last one has two contacts that nothing joins at first."""
CONSENTING = frozenset({0, 1, 3})

_ACTIVITY = (
    "anomalies", "balance_readings", "value_locks", "observations", "attempts", "replies", "inbox",
    "ledger_entries", "charge_lines", "calls", "skips", "accounts", "budgets", "person_budgets",
    "provider_states", "rate_windows", "rate_pauses", "provider_slots", "mart_dirty_partitions",
    "scorecard_parts", "suppressions", "provider_identities", "person_splits",
    "suspected_duplicates",
)  # fmt: skip
_PEOPLE = (
    "persons", "contacts", "contact_identifiers", "contact_persons", "person_identifiers",
    "person_inputs", "freshness", "plan_nights", "plan_rows", "enrichments",
)  # fmt: skip
_COLUMNS = {
    "persons": "person_id, merged_into, created_at",
    "enrichments": "person_id, field, cycle, state, waterfall, position, next_provider, "
    "partition_date, batch, rank, opened_at",
}
"""Of tables that make some of their columns themselves, the others."""

ORDER: Mapping[str, tuple[str, ...]] = {
    "work_email": ("prospeo", "pronto", "lance", "agntdata"),
    "phone": ("lance", "apollo", "pronto", "prospeo"),
    "personal_email": ("agntdata", "pronto", "apollo"),
    "profile": ("apollo", "prospeo", "agntdata"),
}

_SEEN = """
    with pauses as (delete from enrichment.provider_states),
        waits as (delete from enrichment.rate_pauses)
    select json_build_object(
        'day', cast(clock_timestamp() at time zone 'UTC' as date),
        'calls', (select json_object_agg(call_id, json_build_array(provider, state, sends))
                  from enrichment.calls),
        'lines', (select json_agg(json_build_array(call_id, item_key, product, state, cost_micro,
                                                   verdict) order by line_id)
                  from enrichment.charge_lines),
        'attempts', (select json_agg(json_build_array(l.call_id, l.item_key, l.product, a.field,
                                                      a.outcome))
                     from enrichment.attempts as a
                     join enrichment.charge_lines as l using (line_id)
                     where a.call_id is not null),
        'fields', (select json_agg(json_build_array(person_id, field, state, next_provider, result))
                   from enrichment.enrichments),
        'accounts', (select json_agg(json_build_array(provider, kind, balance))
                     from enrichment.accounts where balance <> 0 and kind <> 'available'),
        'budgets', (select json_agg(json_build_array(key, held, in_doubt, spent, overage))
                    from enrichment.budgets where held + in_doubt + spent + overage > 0),
        'inbox', (select json_object_agg(delivery_id, state) from enrichment.inbox),
        'unread', (select count(*) from enrichment.replies where applied_at is null),
        'waiting', (select json_agg(json_build_array(
                        cast(clock_timestamp() at time zone 'UTC' as date) - partition_date,
                        contact_id, field))
                    from enrichment.plan_rows where state = 'waiting'))
"""


class Tables:
    """The engine's database and the configuration under which it is used."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self._reset = "; ".join(
            [
                # Neither foreign keys nor the ledger's own guard are asked.
                "set session_replication_role = replica",
                *(f"delete from enrichment.{name}" for name in (*_ACTIVITY, *_PEOPLE)),  # noqa: S608
                *(_brought_back(name) for name in _PEOPLE),
                "update enrichment.sending set paused_at = null",
                "set session_replication_role = origin",
            ]
        )

    def remember(self) -> None:
        """Keeps people and their first night as they are now: `reset` brings them back."""
        with self.engine.begin() as conn:
            conn.execute(text("create schema before"))
            for name in _PEOPLE:
                columns = _COLUMNS.get(name, "*")
                kept = f"select {columns} from enrichment.{name}"  # noqa: S608
                conn.execute(text(f"create table before.{name} as {kept}"))

    def reset(self) -> None:
        """The first night is planned and opened, and nothing was ever asked."""
        with self.engine.begin() as conn:
            conn.exec_driver_sql(self._reset)

    def plan(self, day: date) -> None:
        """Plans a night of the contacts as they are mirrored."""
        own = self.settings
        with self.engine.begin() as conn:
            locks.hold(conn, locks.PLAN, day.toordinal())
            write_plan(conn, own.policy, own.providers, day, None, datetime.now(UTC))

    def open(self, day: date) -> None:
        """Opens what is planned for a date."""
        own = self.settings.policy
        waterfalls = {field: own.waterfall(field) for field in Field}
        with self.engine.begin() as conn:
            opening.open_enrichments(conn, day, 0, waterfalls, "opening")

    def sweep_up(self) -> None:
        """Throws away dead rows: thousands of examples leave many."""
        with self.engine.connect() as conn:
            own = conn.execution_options(isolation_level="AUTOCOMMIT")
            own.execute(text("vacuum analyze"))

    def seen(self) -> dict[str, Any]:
        """Everything that the model speaks of; pauses of providers, which it does not, end."""
        with self.engine.begin() as conn:
            told: dict[str, Any] = conn.execute(text(_SEEN)).scalar_one()
        return told

    def run(self, statement: str, **parameters: object) -> None:
        with self.engine.begin() as conn:
            conn.execute(text(statement), parameters)


def _brought_back(table: str) -> str:
    columns = f" ({_COLUMNS[table]})" if table in _COLUMNS else ""
    return f"insert into enrichment.{table}{columns} select * from before.{table}"  # noqa: S608


@contextmanager
def opened(ground: Ground) -> Iterator[Tables]:
    """A database with everybody in it."""
    with ground.database() as url:
        folder = ground.home / url.database if url.database else ground.home
        folder.mkdir()
        settings = _settings(folder)
        # One connection for the engine, one for the locks of processes that live.
        engine = connection.create_engine(url, pool_size=2)
        _load(engine, settings, folder)
        tables = Tables(engine, settings)
        tables.plan(datetime.now(UTC).date())
        tables.open(datetime.now(UTC).date())
        tables.remember()
        try:
            yield tables
        finally:
            engine.dispose()


def _settings(folder: Path) -> Settings:
    own: dict[str, Any] = {
        "fields": {name: {"waterfall": list(order)} for name, order in ORDER.items()},
        "providers": {
            name: {
                # One at a time: the model knows what is asked next.
                "concurrency": 1,
                "batch_size": 2,
                "poll_seconds": 3600,
                "tariffs": _at_a_dollar(name),
            }
            for name in PROVIDERS
        },
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(configuration(own)))
    keys = {f"ENRICH_{name.upper()}_API_KEY": "key-of-nobody" for name in PROVIDERS}
    public = {"ENRICH_WEBHOOK_PUBLIC_URL": "http://127.0.0.1:9", "ENRICH_CONFIG": "own.yaml"}
    return load_settings({**keys, **public}, folder)


def _at_a_dollar(provider: str) -> list[dict[str, Any]]:
    prices = dict(PRICES[provider])
    if provider == "apollo":
        prices |= {"waterfall_email": 5, "waterfall_phone": 8}
    return [{"valid_from": "2026-01-01", "usd_per_credit": 1, "prices": prices}]


def _load(engine: Engine, settings: Settings, folder: Path) -> None:
    rows = []
    for number in range(MEMBERS):
        more = {"personal_email_consent": "true"} if number in CONSENTING else {}
        if number == MEMBERS - 1:
            more["linkedin_url"] = ""
        rows.append(contact(number, **more))
    other = {"email": "", "lance_person_id": "", "personal_email_consent": "true"}
    rows.append(contact(MEMBERS - 1, contact_id="d0003", **other))
    path = folder / "contacts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(contact(0)) + ["personal_email_consent"])
        writer.writeheader()
        writer.writerows(rows)
    load_file(engine, path, settings.policy, datetime.now(UTC))
