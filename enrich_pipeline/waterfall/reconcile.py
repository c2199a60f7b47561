"""Reconciliation: the ledger against what the providers themselves say they charged."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from enrich_pipeline.domain.policy import Policy, RateWindow
from enrich_pipeline.providers.http import ExchangeError, ProviderClient
from enrich_pipeline.providers.protocol import Provider
from enrich_pipeline.store import rate_limits
from enrich_pipeline.store.statement import text
from enrich_pipeline.waterfall.context import Access, Context
from enrich_pipeline.waterfall.pauses import LONGEST_WAIT_SECONDS

_DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One provider, in micro-credits of its unit, since its first balance reading.

    A balance that rose was topped up: then since the reading that showed it. `difference_micro` is
    what it charged beyond what was posted; None when its balance cannot be read. It is explained
    when credits held, in doubt or written off cover it.
    """

    provider: str
    unit: str
    charged_micro: int | None
    posted_micro: int
    held_micro: int
    in_doubt_micro: int
    written_off_micro: int
    difference_micro: int | None
    is_explained: bool
    explanation: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """A balance, and what the ledger had posted by then; in flight is what may be either."""

    balance_micro: int
    spent_micro: int
    in_flight_micro: int


def first_reading(ctx: Context, provider: str) -> None:
    """Reads the balance before the first credit is spent there, once in the life of a database."""
    with ctx.engine.connect() as conn:
        if _opening(conn, provider) is not None:
            return
        before = _accounts(conn, provider)
    if not _has_turn(ctx.engine, provider, ctx.terms(provider).rate, ctx.stopping.wait):
        return
    balance = _balance(ctx.providers[provider], ctx.clients[provider])
    if balance is not None:
        with ctx.engine.begin() as conn:
            _keep(conn, provider, balance, before)


def reconcile(
    engine: Engine, policy: Policy, providers: Mapping[str, Provider], access: Mapping[str, Access]
) -> list[Reconciliation]:
    """One row per enabled provider; asks each that has a key for its balance, free of charge."""
    rows = []
    for name, api in providers.items():
        if not access[name].api_key:
            with engine.connect() as conn:
                rows.append(_without_key(conn, name, api.unit))
            continue
        terms = policy.providers[name]
        with engine.connect() as conn:
            before = _accounts(conn, name)
        with ProviderClient(
            access[name].base_url,
            api.headers(access[name].api_key),
            connect_timeout=terms.connect_timeout_seconds,
            timeout=terms.timeout_seconds,
        ) as client:
            may_ask = _has_turn(engine, name, terms.rate, time.sleep)
            balance = _balance(api, client) if may_ask else None
        with engine.begin() as conn:
            opening = _opening(conn, name)
            if balance is not None:
                _keep(conn, name, balance, before)
                # One that rose is where the comparison begins anew.
                opening = opening and _opening(conn, name)
            rows.append(_compare(conn, name, api.unit, opening, balance))
    return rows


def without_reading(conn: Connection, providers: Sequence[str], since: datetime) -> list[str]:
    """Those of `providers` whose balance was not read since then."""
    read = text("SELECT DISTINCT provider FROM enrichment.balance_readings WHERE taken_at > :since")
    known = set(conn.execute(read, {"since": since}).scalars())
    return [name for name in providers if name not in known]


def _without_key(conn: Connection, provider: str, unit: str) -> Reconciliation:
    """What the ledger holds alone: without a key nobody says what was charged."""
    accounts = _accounts(conn, provider)
    spent, held, in_doubt, lost = (
        accounts.get(kind, 0) for kind in ("spent", "held", "in_doubt", "written_off")
    )
    is_untouched = spent + held + in_doubt + lost == 0
    why = f"ENRICH_{provider.upper()}_API_KEY is not set"
    if is_untouched:
        why += "; nothing was bought yet"
    return Reconciliation(
        provider, unit, None, spent, held, in_doubt, lost, None, is_untouched, why
    )


def _compare(
    conn: Connection,
    provider: str,
    unit: str,
    opening: _Reading | None,
    balance: int | None,
) -> Reconciliation:
    accounts = _accounts(conn, provider)
    spent, held, in_doubt, lost = (
        accounts.get(kind, 0) for kind in ("spent", "held", "in_doubt", "written_off")
    )
    if opening is None and spent + held + in_doubt + lost == 0:
        return Reconciliation(provider, unit, 0, 0, 0, 0, 0, 0, True, "nothing was bought yet")
    if opening is None or balance is None:
        why = (
            "no balance was read before the first call"
            if opening is None
            else ("the provider's balance cannot be read now")
        )
        return Reconciliation(provider, unit, None, spent, held, in_doubt, lost, None, False, why)
    charged, posted = opening.balance_micro - balance, spent - opening.spent_micro
    difference = charged - posted
    open_amount = held + in_doubt + lost
    if difference == 0:
        explanation = "equal"
    elif -opening.in_flight_micro <= difference < 0:
        explanation = "covered by credits under way when the comparison began"
    elif 0 < difference <= open_amount:
        explanation = "covered by credits held, in doubt or written off"
    elif difference < 0:
        explanation = "charged less than posted"
    else:
        explanation = "charged more than the ledger knows of"
    return Reconciliation(
        provider,
        unit,
        charged,
        posted,
        held,
        in_doubt,
        lost,
        difference,
        -opening.in_flight_micro <= difference <= open_amount,
        explanation,
    )


def _has_turn(
    engine: Engine, provider: str, windows: Sequence[RateWindow], sleep: Callable[[float], object]
) -> bool:
    """Waits for the turn of a request that is about nobody; False if that would take too long."""
    by_request = [w for w in windows if w.per == "request"]
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        with engine.begin() as conn:
            lease = rate_limits.lease(conn, provider, by_request, 1, 1)
        if lease.requests:
            return True
        # An event that is waited for says so when it happened: the run is to end.
        if time.monotonic() + lease.wait > until or sleep(lease.wait):
            return False


def _balance(api: Provider, client: ProviderClient) -> int | None:
    try:
        response = client.send(api.balance_request(), deadline_seconds=_DEADLINE_SECONDS)
    except ExchangeError:
        return None
    return api.read_balance(response)


def _opening(conn: Connection, provider: str) -> _Reading | None:
    row = conn.execute(
        text("""
            SELECT balance_micro, spent_micro, in_flight_micro FROM (
                SELECT *,
                       row_number() OVER w = 1 AS is_first,
                       balance_micro > lag(balance_micro) OVER w AS is_top_up
                FROM enrichment.balance_readings WHERE provider = :provider
                WINDOW w AS (ORDER BY reading_id)
            ) AS r
            WHERE is_first OR is_top_up ORDER BY reading_id DESC LIMIT 1
        """),
        {"provider": provider},
    ).one_or_none()
    return None if row is None else _Reading(**row._mapping)


def _accounts(conn: Connection, provider: str) -> dict[str, int]:
    rows = conn.execute(
        text("SELECT kind, balance FROM enrichment.accounts WHERE provider = :provider"),
        {"provider": provider},
    )
    return {r.kind: int(r.balance) for r in rows}


def _keep(conn: Connection, provider: str, balance: int, before: Mapping[str, int]) -> None:
    """Keeps a balance that was asked for when the ledger stood at `before`.

    Calls may settle while the provider answers: what it had charged by then lies between what was
    posted before, and all that was posted or may have been charged afterwards.
    """
    accounts = _accounts(conn, provider)
    spent = before.get("spent", 0)
    most = sum(accounts.get(kind, 0) for kind in ("spent", "held", "in_doubt", "written_off"))
    conn.execute(
        text("""
            INSERT INTO enrichment.balance_readings
                (provider, balance_micro, spent_micro, in_flight_micro)
            VALUES (:provider, :balance, :spent, :in_flight)
        """),
        {
            "provider": provider,
            "balance": balance,
            "spent": spent,
            "in_flight": most - spent,
        },
    )
