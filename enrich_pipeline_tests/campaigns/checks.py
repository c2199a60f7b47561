"""What must hold after every round, told from the tables and from the sandbox's own meter.

Knows nothing of how the pipeline works: only its tables, and what the providers charged. Every
check returns violations in words, ids and amounts only; none means that all is well.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from enrich_pipeline.store import invariants

from ..support.sandbox import SandboxProcess

FOUND_DAYS = 90
"""The reuse window of the configuration that campaigns run under."""


def ledger(engine: Engine, *, overage: bool = False) -> list[str]:
    """The invariants in SQL, products paid twice, budgets (`overage`: a fault overcharged)."""
    with engine.connect() as conn:
        found = [f"{rule}: {detail}" for rule, detail in invariants.violations(conn)]
        found += [f"paid twice: {d}" for d in invariants.paid_twice(conn, FOUND_DAYS)]
        found += [f"budget exceeded: {d}" for d in invariants.budgets_exceeded(conn)]
        if not overage:
            beyond = conn.execute(
                text("""
                    select day from enrichment.budgets
                    where held + in_doubt + spent + overage > cap
                """)
            )
            found += [f"charged beyond the budget of {day}" for (day,) in beyond]
    return found


def spending(engine: Engine, sandbox: SandboxProcess) -> list[str]:
    """spent <= charged <= spent + held + in doubt + written off, per provider."""
    with engine.connect() as conn:
        books: dict[str, dict[str, int]] = {}
        for row in conn.execute(text("select provider, kind, balance from enrichment.accounts")):
            books.setdefault(row.provider, {})[row.kind] = int(row.balance)
    found = []
    for provider, meter in sandbox.meter().items():
        own, charged = books.get(provider, {}), meter["charged_micro"]
        spent = own.get("spent", 0)
        unsure = sum(own.get(kind, 0) for kind in ("held", "in_doubt", "written_off"))
        if not spent <= charged <= spent + unsure:
            found.append(
                f"{provider}: charged {charged}, spent {spent}, "
                f"held, in doubt or written off {unsure}"
            )
    return found


def unrecorded(engine: Engine, sandbox: SandboxProcess) -> list[str]:
    """Requests that arrived at a provider beyond the sends whose intent was written first."""
    with engine.connect() as conn:
        intended = {
            row.provider: int(row.sends)
            for row in conn.execute(
                text("select provider, sum(sends) as sends from enrichment.calls group by 1")
            )
        }
    return [
        f"{provider} got {meter['calls']} requests of {intended.get(provider, 0)} intended ones"
        for provider, meter in sandbox.meter().items()
        if meter["calls"] > intended.get(provider, 0)
    ]


def charged_twice(sandbox: SandboxProcess, persons: Mapping[str, int] | None = None) -> list[str]:
    """(human, provider, product, options) that the sandbox charged for twice in one epoch.

    `persons`: humans whose contacts have nothing in common at first, and so are several persons.
    Each of these may be bought once.
    """
    known = persons or {}
    return [
        f"{row['human']} was charged {row['times']} times at {row['provider']} for "
        f"{row['product']} (calls {row['calls']})"
        for row in sandbox.double_charges()
        if max(Counter(row["options"]).values()) > known.get(row["human"], 1)
    ]


def asked_again(engine: Engine) -> list[str]:
    """Products that were asked for again of somebody of whom they had just known nothing.

    Not those that another one merely brings: it cannot be asked for without.
    """
    return _ids(
        engine,
        "line {} asks for what was a miss, and nothing new was sent",
        """
        select distinct b.line_id from enrichment.charge_lines as a
        join enrichment.charge_lines as b
          on (b.person_id, b.provider, b.product, b.options)
           = (a.person_id, a.provider, a.product, a.options) and b.item_key = a.item_key
        join enrichment.calls as c on c.call_id = b.call_id
        where a.verdict in ('not_found', 'other_person') and b.sent_identity <@ a.sent_identity
          and c.claimed_at > a.answered_at and c.armed_at is not null
          and exists (select from enrichment.attempts as t where t.line_id = b.line_id) order by 1
        """,
    )


_FORBIDDEN = {
    "a second live purchase": """
        insert into enrichment.charge_lines (call_id, item_key, person_id, provider, product,
            fields, state, hold_micro, hold_usd_micro)
        select call_id, 'twin-' || n, person_id, provider, 'twin', fields, 'held', 0, 0
        from (select * from enrichment.charge_lines order by line_id limit 1) as l,
            generate_series(1, 2) as n
    """,
    "a second live enrichment": """
        insert into enrichment.enrichments (person_id, field, cycle, waterfall, next_provider,
            partition_date, batch)
        select person_id, 'twin', n, waterfall, 'twin', partition_date, batch
        from (select * from enrichment.enrichments order by enrichment_id limit 1) as e,
            generate_series(1, 2) as n
    """,
    "a hold beyond the day's budget": "update enrichment.budgets set held = cap - spent + 1",
    "a hold beyond a person's budget": (
        "update enrichment.person_budgets set held = cap - spent + 1"
    ),
    "less than nothing held": "update enrichment.accounts set balance = -1 where kind = 'held'",
    "a changed ledger entry": "update enrichment.ledger_entries set amount_micro = 1",
    "a deleted ledger entry": "delete from enrichment.ledger_entries",
    "a ledger entry twice": """
        insert into enrichment.ledger_entries (entry_key, entry_type, provider, debit_account,
            credit_account, amount_micro, amount_usd_micro, call_id, partition_date, batch)
        select entry_key, entry_type, provider, debit_account, credit_account, amount_micro,
            amount_usd_micro, call_id, partition_date, batch
        from enrichment.ledger_entries order by entry_id limit 1
    """,
    "a reply kept twice": """
        insert into enrichment.replies (call_id, settlement, body_sha256)
        select call_id, settlement, body_sha256 from enrichment.replies order by reply_id limit 1
    """,
}


_REFUSALS = frozenset({"23505", "23514", "P0001"})
"""A unique index, a check, a trigger."""


def not_refused(engine: Engine) -> list[str]:
    """What PostgreSQL itself must refuse, whatever the code above it does, and does not.

    There must have been a purchase; nothing that is tried here stays.
    """
    found = []
    for what, statement in _FORBIDDEN.items():
        with engine.connect() as conn:
            try:
                conn.execute(text(statement))
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) in _REFUSALS:
                    continue
                raise
            found.append(f"{what} is possible")
    return found


def unused_replies(engine: Engine) -> list[str]:
    """Stored replies and deliveries that nobody read although nothing is under way any more."""
    return [
        *_ids(
            engine,
            "reply {} was stored and not used",
            """
            select r.reply_id from enrichment.replies as r
            where r.applied_at is null order by 1
            """,
        ),
        *_ids(
            engine,
            "delivery {} belongs to a call and was not read",
            """
            select i.delivery_id from enrichment.inbox as i
            join enrichment.calls as c on c.provider = i.provider and c.token_hash = i.token_hash
            where i.state = 'new' order by 1
            """,
        ),
    ]


def open_work(engine: Engine) -> list[str]:
    """Calls that are not closed, and fields that wait for nothing that could ever come."""
    return [
        *_ids(
            engine,
            "call {} is not closed",
            "select call_id from enrichment.calls where closed_at is null order by 1",
        ),
        *_ids(
            engine,
            "enrichment {} is pending and no live line answers it",
            """
            select e.enrichment_id from enrichment.enrichments as e
            where e.state in ('pending', 'in_doubt') and not exists (
                select 1 from enrichment.attempts as a
                join enrichment.charge_lines as l using (line_id)
                where a.enrichment_id = e.enrichment_id and l.state in ('held', 'in_doubt'))
            order by 1
            """,
        ),
    ]


def doubts(engine: Engine) -> int:
    """How many calls were ever in doubt."""
    return doubts_by_provider(engine).total()


def doubts_by_provider(engine: Engine) -> Counter[str]:
    """How many calls to each provider were ever in doubt."""
    with engine.connect() as conn:
        rows = conn.execute(
            text("""
                select provider, count(*) from enrichment.calls
                where in_doubt_at is not null group by provider
            """)
        )
        return Counter({provider: number for provider, number in rows})


def deadlocks(engine: Engine) -> list[str]:
    """Transactions that waited for each other: whoever was cut off may have told nobody."""
    query = (
        "select deadlocks from pg_stat_database where datname = current_database() "
        "and pg_stat_clear_snapshot() is not null"
    )
    with engine.connect() as conn:
        cut_off = int(conn.execute(text(query)).scalar_one())
    return [f"{cut_off} deadlocks (40P01)"] if cut_off else []


def all_of(
    engine: Engine, sandbox: SandboxProcess, persons: Mapping[str, int] | None = None
) -> list[str]:
    """Everything that must hold at rest, whatever went wrong before."""
    return [
        *ledger(engine),
        *unrecorded(engine, sandbox),
        *spending(engine, sandbox),
        *charged_twice(sandbox, persons),
        *asked_again(engine),
        *unused_replies(engine),
    ]


def broken_rules(sandbox: SandboxProcess, *, known: Iterable[str] = ()) -> list[str]:
    """Documented rules of providers that were broken, but for `known` ones ("provider.rule")."""
    counts: Mapping[str, Any] = sandbox.violations()["counts"]
    return [f"{rule}: {n} times" for rule, n in counts.items() if rule not in set(known)]


def _ids(engine: Engine, message: str, query: str) -> list[str]:
    with engine.connect() as conn:
        return [message.format(int(row[0])) for row in conn.execute(text(query))]
