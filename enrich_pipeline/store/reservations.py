"""Calls before they exist, and the statement that reserves them with their lines and attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection

from enrich_pipeline.providers.protocol import Item
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text


@dataclass(frozen=True, slots=True)
class DraftLine:
    """One product for one person, as it will be held; `enrichment_ids` are what it shall answer."""

    product: str
    options: str
    fields: tuple[str, ...]
    hold_micro: int
    hold_usd_micro: int
    sent_identity: tuple[str, ...]
    enrichment_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DraftItem:
    """One person in a call that is about to be reserved."""

    item: Item
    lines: tuple[DraftLine, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A call before it exists."""

    call_id: int
    provider: str
    group: str
    day: date
    batch: int
    run_id: str
    prices: Mapping[str, int]
    usd_micro_per_credit: int
    items: tuple[DraftItem, ...]
    request_body: bytes
    request_sha256: bytes
    token_hash: bytes | None

    @property
    def hold_micro(self) -> int:
        return sum(line.hold_micro for item in self.items for line in item.lines)

    @property
    def hold_usd_micro(self) -> int:
        return sum(line.hold_usd_micro for item in self.items for line in item.lines)


def today(conn: Connection) -> date:
    """The UTC day by the database's clock: the budget that a hold made now belongs to."""
    day: date = conn.execute(
        text("SELECT cast(clock_timestamp() AT TIME ZONE 'UTC' AS date)")
    ).scalar_one()
    return day


def new_ids(conn: Connection, count: int) -> list[int]:
    """Numbers for calls that will be reserved in this transaction."""
    rows = conn.execute(
        text("""
            SELECT nextval(pg_get_serial_sequence('enrichment.calls', 'call_id')) AS id
            FROM generate_series(1, :count)
        """),
        {"count": count},
    )
    return [int(r.id) for r in rows]


def insert_reserved(
    conn: Connection, drafts: Sequence[Draft], spend_date: date, lease_seconds: float
) -> None:
    """Writes calls, charge lines and attempts; the enrichments they answer become pending."""
    conn.execute(
        text("""
            INSERT INTO enrichment.calls (call_id, provider, call_group, partition_date, batch,
                spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit, items,
                request_body, request_sha256, token_hash, lease_until)
            OVERRIDING SYSTEM VALUE
            SELECT c.call_id, c.provider, c.call_group, c.partition_date, c.batch, :spend_date,
                c.run_id, c.persons, c.hold_micro, c.prices, c.usd_micro_per_credit, c.items,
                decode(c.request_body, 'hex'), decode(c.request_sha256, 'hex'),
                decode(c.token_hash, 'hex'), clock_timestamp() + make_interval(secs => :lease)
            FROM jsonb_to_recordset(cast(:calls AS jsonb)) AS c(call_id bigint, provider text,
                call_group text, partition_date date, batch smallint, run_id text,
                persons smallint, hold_micro bigint, prices jsonb, usd_micro_per_credit bigint,
                items jsonb, request_body text, request_sha256 text, token_hash text)
        """),
        {
            "spend_date": spend_date,
            "lease": lease_seconds,
            "calls": as_json(
                {
                    "call_id": d.call_id,
                    "provider": d.provider,
                    "call_group": d.group,
                    "partition_date": d.day,
                    "batch": d.batch,
                    "run_id": d.run_id,
                    "persons": len(d.items),
                    "hold_micro": d.hold_micro,
                    "prices": dict(d.prices),
                    "usd_micro_per_credit": d.usd_micro_per_credit,
                    "items": [_item_json(i.item) for i in d.items],
                    "request_body": d.request_body.hex(),
                    "request_sha256": d.request_sha256.hex(),
                    "token_hash": d.token_hash.hex() if d.token_hash else None,
                }
                for d in drafts
            ),
        },
    )
    lines = [
        {
            "call_id": d.call_id,
            "provider": d.provider,
            "item_key": i.item.key,
            "person_id": i.item.person.person_id,
            "product": line.product,
            "options": line.options,
            "fields": list(line.fields),
            "hold_micro": line.hold_micro,
            "hold_usd_micro": line.hold_usd_micro,
            "sent_identity": list(line.sent_identity),
            "enrichment_ids": list(line.enrichment_ids),
        }
        for d in drafts
        for i in d.items
        for line in i.lines
    ]
    conn.execute(
        text("""
            WITH input AS (
                SELECT * FROM jsonb_to_recordset(cast(:lines AS jsonb)) AS l(call_id bigint,
                    provider text, item_key text, person_id bigint, product text, options text,
                    fields text[], hold_micro bigint, hold_usd_micro bigint, sent_identity text[],
                    enrichment_ids bigint[])
            ), lines AS (
                INSERT INTO enrichment.charge_lines (call_id, item_key, person_id, provider,
                    product, options, fields, hold_micro, hold_usd_micro, sent_identity)
                SELECT i.call_id, i.item_key, i.person_id, i.provider, i.product, i.options,
                    i.fields, i.hold_micro, i.hold_usd_micro, i.sent_identity
                FROM input AS i
                RETURNING line_id, call_id, item_key, product
            ), asked AS (
                SELECT l.line_id, l.call_id, e.enrichment_id
                FROM input AS i
                JOIN lines AS l USING (call_id, item_key, product)
                CROSS JOIN unnest(i.enrichment_ids) AS e(enrichment_id)
            ), pending AS (
                UPDATE enrichment.enrichments AS e
                SET state = 'pending', wait_reason = NULL
                FROM asked AS a WHERE e.enrichment_id = a.enrichment_id AND e.state = 'open'
                RETURNING e.enrichment_id, e.person_id, e.field, e.position
            )
            INSERT INTO enrichment.attempts (enrichment_id, person_id, field, provider, try,
                position, call_id, line_id, outcome, partition_date, batch, run_id)
            SELECT p.enrichment_id, p.person_id, p.field, c.provider,
                1 + (SELECT count(*) FROM enrichment.attempts AS t
                     WHERE t.enrichment_id = p.enrichment_id AND t.provider = c.provider
                       AND t.outcome <> 'reused'),
                p.position, a.call_id, a.line_id, 'pending', c.partition_date, c.batch, c.run_id
            FROM pending AS p
            JOIN asked AS a USING (enrichment_id)
            JOIN enrichment.calls AS c ON c.call_id = a.call_id
        """),
        {"lines": as_json(lines)},
    )


def _item_json(item: Item) -> dict[str, Any]:
    return {
        "key": item.key,
        "person_id": item.person.person_id,
        "products": sorted(item.products),
        "datapoints": dict(item.person.datapoints),
        "consent": item.person.personal_email_consent,
    }
