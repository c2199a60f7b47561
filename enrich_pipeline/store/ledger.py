"""The ledger and the budgets: every statement that moves an amount.

Append-only double entry per provider, in micro-credits of its unit. An entry's key is
`call:settlement:type`, so that no settlement is booked twice. Budgets move in the
same transaction, and PostgreSQL refuses what does not fit.

Order of locks, for everybody: persons, accounts, budgets, person budgets; each in key order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection

from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.domain.posting import (
    SIDES,
    Account,
    Entry,
    EntryType,
    LineChange,
    LineState,
    budget_move,
)
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text


@dataclass(frozen=True, slots=True)
class CallEntries:
    """The entries of one settlement of one call, with what the ledger says of the call."""

    call_id: int
    settlement: str
    provider: str
    spend_date: date
    partition_date: date
    batch: int
    entries: tuple[Entry, ...]
    cost_source: str | None = None
    evidence: str | None = None


def open_accounts(conn: Connection, provider: str) -> None:
    """Creates the provider's accounts where they do not exist."""
    conn.execute(
        # An insert that meets a conflict uses up a number all the same, and every claim looks here.
        text("""
            INSERT INTO enrichment.accounts (provider, kind)
            SELECT :provider, kind FROM unnest(cast(:kinds AS text[])) AS kind
            WHERE NOT EXISTS (
                SELECT FROM enrichment.accounts AS a WHERE (a.provider, a.kind) = (:provider, kind))
            ON CONFLICT (provider, kind) DO NOTHING
        """),
        {"provider": provider, "kinds": [a.value for a in Account]},
    )


def post(conn: Connection, provider: str, calls: Sequence[CallEntries]) -> None:
    """Writes the entries and moves balances and day budgets.

    Raises:
        EnrichError: a day's budget was never opened.
        sqlalchemy.exc.IntegrityError: a hold does not fit its budget, or an entry of this name was
            written before; the transaction must end.
    """
    rows = [
        {
            "entry_key": f"{call.call_id}:{call.settlement}:{entry.entry_type}",
            "entry_type": entry.entry_type,
            "debit": SIDES[entry.entry_type][0],
            "credit": SIDES[entry.entry_type][1],
            "amount_micro": entry.amount_micro,
            "amount_usd_micro": entry.amount_usd_micro,
            "cost_source": call.cost_source if _is_cost(entry) else None,
            "call_id": call.call_id,
            "partition_date": call.partition_date,
            "batch": call.batch,
            "evidence": call.evidence,
        }
        for call in calls
        for entry in call.entries
    ]
    if not rows:
        return
    _lock_accounts(conn, provider)
    # A name that was used before is refused: lines would move, and the books would not.
    conn.execute(
        text("""
            WITH input AS (
                SELECT * FROM jsonb_to_recordset(cast(:rows AS jsonb)) AS r(
                    entry_key text, entry_type text, debit text, credit text, amount_micro bigint,
                    amount_usd_micro bigint, cost_source text, call_id bigint,
                    partition_date date, batch smallint, evidence text)
            ), written AS (
                INSERT INTO enrichment.ledger_entries (entry_key, entry_type, provider,
                    debit_account, credit_account, amount_micro, amount_usd_micro, cost_source,
                    call_id, partition_date, batch, evidence)
                SELECT i.entry_key, i.entry_type, :provider, d.account_id, c.account_id,
                    i.amount_micro, i.amount_usd_micro, i.cost_source, i.call_id,
                    i.partition_date, i.batch, i.evidence
                FROM input AS i
                JOIN enrichment.accounts AS d ON d.provider = :provider AND d.kind = i.debit
                JOIN enrichment.accounts AS c ON c.provider = :provider AND c.kind = i.credit
                RETURNING debit_account, credit_account, amount_micro
            ), moved AS (
                SELECT account_id, sum(amount) AS amount FROM (
                    SELECT debit_account AS account_id, amount_micro AS amount FROM written
                    UNION ALL
                    SELECT credit_account, -amount_micro FROM written
                ) AS sides GROUP BY account_id
            )
            UPDATE enrichment.accounts AS a SET balance = a.balance + m.amount
            FROM moved AS m WHERE a.account_id = m.account_id
        """),
        {"rows": as_json(rows), "provider": provider},
    )
    _move_budgets(conn, provider, calls)
    conn.execute(
        text("""
            INSERT INTO enrichment.mart_dirty_partitions (partition_date, batch)
            SELECT DISTINCT d, b
            FROM unnest(cast(:dates AS date[]), cast(:batches AS smallint[])) AS p (d, b)
            ORDER BY d, b
            ON CONFLICT (partition_date, batch) DO UPDATE SET marked_at = clock_timestamp()
        """),
        {
            "dates": [call.partition_date for call in calls],
            "batches": [call.batch for call in calls],
        },
    )


def _lock_accounts(conn: Connection, provider: str) -> None:
    conn.execute(
        text("""
            SELECT account_id FROM enrichment.accounts
            WHERE provider = :provider ORDER BY account_id FOR NO KEY UPDATE
        """),
        {"provider": provider},
    )


def _is_cost(entry: Entry) -> bool:
    return entry.entry_type in (
        EntryType.POST,
        EntryType.DOUBT_POST,
        EntryType.RECOVER,
        EntryType.OVERAGE,
    )


def _move_budgets(
    conn: Connection,
    provider: str,
    calls: Sequence[CallEntries],
) -> None:
    days: dict[date, list[Entry]] = {}
    for call in calls:
        if call.entries:
            days.setdefault(call.spend_date, []).extend(call.entries)
    moves = []
    for day, parts in sorted(days.items()):
        for scope, key, usd in (("night", "all", True), ("provider", provider, False)):
            move = budget_move(parts, usd=usd)
            moves.append(
                {
                    "scope": scope,
                    "key": key,
                    "day": day,
                    "held": move.held,
                    "in_doubt": move.in_doubt,
                    "spent": move.spent,
                    "overage": move.overage,
                }
            )
    conn.execute(
        text("""
            SELECT 1 FROM enrichment.budgets AS b
            WHERE (b.scope, b.key) IN (('night', 'all'), ('provider', :provider))
              AND b.day = ANY(cast(:days AS date[]))
            ORDER BY b.scope, b.key, b.day FOR NO KEY UPDATE
        """),
        {"provider": provider, "days": sorted(days)},
    )
    moved = conn.execute(
        text("""
            UPDATE enrichment.budgets AS b SET held = b.held + m.held,
                in_doubt = b.in_doubt + m.in_doubt, spent = b.spent + m.spent,
                overage = b.overage + m.overage
            FROM jsonb_to_recordset(cast(:moves AS jsonb)) AS m(scope text, key text, day date,
                held bigint, in_doubt bigint, spent bigint, overage bigint)
            WHERE (b.scope, b.key, b.day) = (m.scope, m.key, m.day)
        """),
        {"moves": as_json(moves)},
    ).rowcount
    if moved != len(moves):
        raise EnrichError(f"{len(moves) - moved} budgets of {provider} were never opened")


@dataclass(frozen=True, slots=True)
class Room:
    """What a day's budget still allows, and what open holds could give back."""

    free: int
    held: int


UNCAPPED = 2**62


def open_budgets(
    conn: Connection, provider: str, day: date, night_cap: int, provider_cap: int | None
) -> tuple[Room, Room]:
    """Creates and locks the day's two budget rows; returns the room in (micro-USD, micro-credits).

    A cap that was lowered below what is already used takes effect as "nothing more today".
    """
    _lock_accounts(conn, provider)
    conn.execute(
        text("""
            INSERT INTO enrichment.budgets (scope, key, day, cap)
            VALUES ('night', 'all', :day, :night), ('provider', :provider, :day, :own)
            ON CONFLICT (scope, key, day) DO NOTHING
        """),
        {
            "day": day,
            "night": night_cap,
            "provider": provider,
            "own": UNCAPPED if provider_cap is None else provider_cap,
        },
    )
    rows = conn.execute(
        text("""
            SELECT b.scope, b.cap, b.held, b.held + b.in_doubt + b.spent AS used
            FROM enrichment.budgets AS b
            WHERE b.day = :day AND (b.scope, b.key) IN (('night', 'all'), ('provider', :provider))
            ORDER BY b.scope, b.key FOR NO KEY UPDATE
        """),
        {"day": day, "provider": provider},
    ).all()
    caps = {"night": night_cap, "provider": UNCAPPED if provider_cap is None else provider_cap}
    rooms: dict[str, Room] = {}
    for row in rows:
        cap = max(caps[row.scope], int(row.used))
        rooms[row.scope] = Room(free=cap - int(row.used), held=int(row.held))
        if cap != row.cap:
            conn.execute(
                text("""
                    UPDATE enrichment.budgets SET cap = :cap
                    WHERE day = :day AND scope = :scope AND key = :key
                """),
                {
                    "cap": cap,
                    "day": day,
                    "scope": row.scope,
                    "key": "all" if row.scope == "night" else provider,
                },
            )
    return rooms["night"], rooms["provider"]


def open_person_budgets(
    conn: Connection, person_ids: Sequence[int], cap: int, days: int
) -> Mapping[int, int]:
    """Creates the persons' budgets, brings `spent` to the rolling window; returns micro-USD free.

    What is under way for persons that were merged into one counts as its own. A cap that was
    lowered below what is used takes effect as "nothing more". The persons' rows must be locked.
    """
    rows = conn.execute(
        text("""
            INSERT INTO enrichment.person_budgets AS b (person_id, cap, held, in_doubt, spent)
            SELECT p.person_id, greatest(:cap, s.held + s.in_doubt + s.spent), s.held, s.in_doubt,
                   s.spent
            FROM unnest(cast(:persons AS bigint[])) AS p(person_id)
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(l.hold_usd_micro)
                           FILTER (WHERE l.state = 'held'), 0) AS held,
                       coalesce(sum(l.hold_usd_micro)
                           FILTER (WHERE l.state = 'in_doubt'), 0) AS in_doubt,
                       coalesce(sum(CASE l.state WHEN 'written_off' THEN l.hold_usd_micro
                           ELSE least(l.cost_usd_micro, l.hold_usd_micro) END)
                           FILTER (WHERE l.state IN ('posted', 'written_off')), 0) AS spent
                FROM (
                    SELECT p.person_id
                    UNION ALL
                    SELECT m.person_id FROM enrichment.persons AS m
                    WHERE m.merged_into = p.person_id
                ) AS members
                JOIN enrichment.charge_lines AS l USING (person_id)
                WHERE l.settled_at IS NULL OR l.settled_at > now() - make_interval(days => :days)
            ) AS s
            ORDER BY p.person_id
            ON CONFLICT (person_id) DO UPDATE SET cap = excluded.cap, held = excluded.held,
                in_doubt = excluded.in_doubt, spent = excluded.spent
            RETURNING b.person_id, b.cap - b.held - b.in_doubt - b.spent AS free
        """),
        {"persons": sorted(person_ids), "cap": cap, "days": days},
    )
    return {int(r.person_id): int(r.free) for r in rows}


def hold_for_persons(conn: Connection, holds: Mapping[int, int]) -> None:
    """Adds holds (person -> micro-USD) to the persons' budgets."""
    conn.execute(
        text("""
            UPDATE enrichment.person_budgets AS b SET held = b.held + h.amount
            FROM unnest(cast(:persons AS bigint[]), cast(:amounts AS bigint[]))
                AS h(person_id, amount)
            WHERE b.person_id = h.person_id
        """),
        {"persons": list(holds), "amounts": list(holds.values())},
    )


def move_person_budgets(conn: Connection, changes: Sequence[LineChange]) -> None:
    """Moves the persons' budgets along with their charge lines; the caller locked the persons."""
    moves: dict[int, list[int]] = {}
    for change in changes:
        held, in_doubt, spent, overage = moves.setdefault(change.person_id, [0, 0, 0, 0])
        paid = min(change.cost_usd_micro, change.hold_usd_micro)
        match change.before:
            case LineState.HELD:
                held -= change.hold_usd_micro
            case LineState.IN_DOUBT:
                in_doubt -= change.hold_usd_micro
            case LineState.WRITTEN_OFF:
                spent -= change.hold_usd_micro
            case _:
                raise ValueError(f"a {change.before} line does not change")
        match change.after:
            case LineState.POSTED:
                spent += paid
                overage += change.cost_usd_micro - paid
            case LineState.IN_DOUBT:
                in_doubt += change.hold_usd_micro
            case LineState.WRITTEN_OFF:
                spent += change.hold_usd_micro
            case _:
                pass
        moves[change.person_id] = [held, in_doubt, spent, overage]
    if not moves:
        return
    conn.execute(
        text("""
            UPDATE enrichment.person_budgets AS b SET held = greatest(0, b.held + m.held),
                in_doubt = greatest(0, b.in_doubt + m.in_doubt),
                spent = greatest(0, b.spent + m.spent), overage = b.overage + m.overage
            FROM jsonb_to_recordset(cast(:moves AS jsonb)) AS m(person_id bigint, held bigint,
                in_doubt bigint, spent bigint, overage bigint)
            WHERE b.person_id = m.person_id
        """),
        {
            "moves": as_json(
                {"person_id": p, "held": h, "in_doubt": d, "spent": s, "overage": o}
                for p, (h, d, s, o) in sorted(moves.items())
            )
        },
    )
