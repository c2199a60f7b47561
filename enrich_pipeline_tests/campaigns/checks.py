"""What must hold after every round, told from the tables and from the sandbox's own meter.

Knows nothing of how the pipeline works: only its tables, and what the providers charged. Every
check returns violations in words, ids and amounts only; none means that all is well.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Engine, text

from enrich_pipeline.store import invariants

from ..support.sandbox import SandboxProcess

FOUND_DAYS = 90
"""The reuse window of the configuration that campaigns run under."""


def ledger(engine: Engine, *, overage: bool = False) -> list[str]:
    """The invariants in SQL, products paid twice, budgets (`overage`: a fault overcharged)."""
    with engine.connect() as conn:
        found = [f"{rule}: {detail}" for rule, detail in invariants.violations(conn)]
        found += [f"paid twice: {d}" for d in invariants.paid_twice(conn, FOUND_DAYS)]
        if not overage:
            found += [f"budget exceeded: {d}" for d in invariants.budgets_exceeded(conn)]
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
    with engine.connect() as conn:
        return int(
            conn.execute(
                text("select count(*) from enrichment.calls where in_doubt_at is not null")
            ).scalar_one()
        )


def all_of(
    engine: Engine, sandbox: SandboxProcess, persons: Mapping[str, int] | None = None
) -> list[str]:
    """Everything that must hold at rest, whatever went wrong before."""
    return [
        *ledger(engine),
        *spending(engine, sandbox),
        *charged_twice(sandbox, persons),
        *unused_replies(engine),
    ]


def broken_rules(sandbox: SandboxProcess, *, known: Iterable[str] = ()) -> list[str]:
    """Documented rules of providers that were broken, but for `known` ones ("provider.rule")."""
    counts: Mapping[str, Any] = sandbox.violations()["counts"]
    return [f"{rule}: {n} times" for rule, n in counts.items() if rule not in set(known)]


def _ids(engine: Engine, message: str, query: str) -> list[str]:
    with engine.connect() as conn:
        return [message.format(int(row[0])) for row in conn.execute(text(query))]
