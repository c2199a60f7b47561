"""Reconciliation: the ledger against what the providers themselves say they charged."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.providers.http import ExchangeError, ProviderClient
from enrich_pipeline.providers.protocol import Provider
from enrich_pipeline.waterfall.context import Access, Context

_DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One provider, in micro-credits of its unit, since its first balance reading.

    `difference_micro` is what it charged beyond what was posted; None when its balance cannot be
    read. It is explained when credits held, in doubt or written off cover it.
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


def first_reading(ctx: Context, provider: str) -> None:
    """Reads the balance before the first credit is spent there, once in the life of a database."""
    with ctx.engine.connect() as conn:
        if _opening(conn, provider) is not None:
            return
    balance = _balance(ctx.providers[provider], ctx.clients[provider])
    if balance is not None:
        with ctx.engine.begin() as conn:
            _keep(conn, provider, balance)


def reconcile(
    engine: Engine, policy: Policy, providers: Mapping[str, Provider], access: Mapping[str, Access]
) -> list[Reconciliation]:
    """One row per enabled provider; asks each for its balance, free of charge."""
    rows = []
    for name, api in providers.items():
        terms = policy.providers[name]
        with ProviderClient(
            access[name].base_url,
            api.headers(access[name].api_key),
            connect_timeout=terms.connect_timeout_seconds,
            timeout=terms.timeout_seconds,
        ) as client:
            balance = _balance(api, client)
        with engine.begin() as conn:
            opening = _opening(conn, name)
            if balance is not None:
                _keep(conn, name, balance)
            rows.append(_compare(conn, name, api.unit, opening, balance))
    return rows


def _compare(
    conn: Connection,
    provider: str,
    unit: str,
    opening: tuple[int, int] | None,
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
    first_balance, first_spent = opening
    charged, posted = first_balance - balance, spent - first_spent
    difference = charged - posted
    open_amount = held + in_doubt + lost
    if difference == 0:
        explanation = "equal"
    elif 0 < difference <= open_amount:
        explanation = "covered by credits held, in doubt or written off"
    elif difference < 0:
        explanation = "charged less than posted, or the balance was topped up"
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
        0 <= difference <= open_amount,
        explanation,
    )


def _balance(api: Provider, client: ProviderClient) -> int | None:
    try:
        response = client.send(api.balance_request(), deadline_seconds=_DEADLINE_SECONDS)
    except ExchangeError:
        return None
    return api.read_balance(response)


def _opening(conn: Connection, provider: str) -> tuple[int, int] | None:
    row = conn.execute(
        text("""
            SELECT balance_micro, spent_micro FROM enrichment.balance_readings
            WHERE provider = :provider ORDER BY reading_id LIMIT 1
        """),
        {"provider": provider},
    ).one_or_none()
    return (int(row.balance_micro), int(row.spent_micro)) if row else None


def _accounts(conn: Connection, provider: str) -> dict[str, int]:
    rows = conn.execute(
        text("SELECT kind, balance FROM enrichment.accounts WHERE provider = :provider"),
        {"provider": provider},
    )
    return {r.kind: int(r.balance) for r in rows}


def _keep(conn: Connection, provider: str, balance: int) -> None:
    accounts = _accounts(conn, provider)
    conn.execute(
        text("""
            INSERT INTO enrichment.balance_readings
                (provider, balance_micro, spent_micro, in_flight_micro)
            VALUES (:provider, :balance, :spent, :in_flight)
        """),
        {
            "provider": provider,
            "balance": balance,
            "spent": accounts.get("spent", 0),
            "in_flight": accounts.get("held", 0) + accounts.get("in_doubt", 0),
        },
    )
