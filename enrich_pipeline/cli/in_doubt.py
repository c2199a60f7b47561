"""enrich in-doubt: what nobody knows to be charged or not, and settling it with evidence."""

import json
from dataclasses import asdict
from decimal import Decimal

import click
from sqlalchemy import Engine

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.settings import Settings
from enrich_pipeline.waterfall import in_doubt
from enrich_pipeline.waterfall.context import Context


@click.group()
def command() -> None:
    """Calls that were sent and of which nobody knows whether they were charged.

    Their credits stay unavailable until evidence comes: a late answer, or a person who looked at
    the provider's usage page. Without any they are written off after the provider's
    in_doubt_hours.

    \b
    Examples:
      enrich in-doubt list
      enrich in-doubt resolve 42 --not-charged --evidence "usage page 2026-11-21: no request"
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout, one object each.")
def list_command(as_json: bool) -> None:
    """List the calls in doubt, oldest first.

    \b
    Examples:
      enrich in-doubt list
      enrich in-doubt list --json
    """
    settings = session.load()
    with session.database(settings) as engine, engine.connect() as connection:
        doubts = in_doubt.list_doubts(connection)
    if as_json:
        click.echo(json.dumps([asdict(doubt) for doubt in doubts], default=str))
        return
    if not doubts:
        terminal.out().print("Nothing is in doubt.")
        return
    terminal.out().print(
        terminal.table(
            "In doubt",
            ("call", "provider", "persons", "products", "credits", "since", "written off", "why"),
            [
                (
                    doubt.call_id,
                    doubt.provider,
                    doubt.persons,
                    ", ".join(doubt.products),
                    terminal.credits_of(doubt.amount_micro),
                    f"{doubt.since:%Y-%m-%d %H:%M}",
                    f"{doubt.written_off_at:%Y-%m-%d %H:%M}" if doubt.written_off_at else "",
                    doubt.reason,
                )
                for doubt in doubts
            ],
        )
    )


@command.command("resolve")
@click.argument("call_id", type=int)
@click.option("--charged/--not-charged", "charged", default=None, help="What the evidence says.")
@click.option("--credits", "amount", help="What was charged (default: all that is held).")
@click.option("--evidence", required=True, help="How you know; kept in the ledger. No names.")
def resolve_command(call_id: int, charged: bool | None, amount: str | None, evidence: str) -> None:
    """Settle the call CALL_ID by what you found out.

    Not charged: the credits are free again and the fields may be bought again. Charged: the
    credits are posted; the answer itself stays lost.

    \b
    Examples:
      enrich in-doubt resolve 42 --not-charged --evidence "usage page: no request at 02:13"
      enrich in-doubt resolve 43 --charged --credits 12.5 --evidence "invoice 2026-11, line 7"
    """
    if charged is None:
        raise click.UsageError("say --charged or --not-charged")
    if amount is not None and not charged:
        raise click.UsageError("--credits goes with --charged")
    if not evidence.strip():
        raise click.UsageError("--evidence must not be empty")
    micro = None if amount is None else _micro(amount)
    settings = session.load()
    with session.database(settings) as engine:
        in_doubt.resolve(
            _context(settings, engine),
            call_id,
            "charged" if charged else "not_charged",
            evidence.strip(),
            micro,
        )
    terminal.out().print(f"Call {call_id} is settled: {'charged' if charged else 'not charged'}.")


def _context(settings: Settings, engine: Engine) -> Context:
    return Context(
        engine=engine,
        policy=settings.policy,
        providers=settings.providers,
        # Nothing is sent.
        clients={},
        webhook_public_url=settings.webhook_public_url,
        run_id="operator",
    )


def _micro(amount: str) -> int:
    try:
        micro = Decimal(amount) * MICRO
    except ArithmeticError:
        micro = Decimal("NaN")
    if not micro.is_finite() or micro < 0 or micro != micro.to_integral_value():
        raise click.BadParameter(f"{amount!r} is not an amount of credits", param_hint="--credits")
    return int(micro)
