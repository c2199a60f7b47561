"""enrich alerts: say what needs a person, for those who have cron and no Dagster daemon."""

from datetime import UTC, datetime, timedelta

import click
from sqlalchemy import Engine

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.domain.alert import Alert, Level
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.orchestration import dagster_home
from enrich_pipeline.reports import channel
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import alerts as store

DONE, FAILED = 0, 1


@click.command()
@click.option("--test", is_flag=True, help="Send one message to every channel; look at nothing.")
@click.option("--dry-run", is_flag=True, help="Show what would be said; send and keep nothing.")
def command(test: bool, dry_run: bool) -> int:
    """Say what needs a person, through the channels in ENRICH_ALERT_URLS.

    A condition is told once, again after alerts.repeat_hours, and once more when it is over, no
    matter how many processes look. Dagster's alerts_sensor does the same every three minutes; for
    cron there is this command. Addresses are those of Apprise, several of them apart by spaces.

    Told are: a failed run; a night not finished by alerts.deadline; a budget used to 80 and to 100
    percent; a provider that refuses the key or is left alone; credits below low_credits; doubts
    past their horizon; balances that moved otherwise than the ledger; far fewer matches than usual.

    \b
    Examples:
      ENRICH_ALERT_URLS="mailto://user:password@example.com" enrich alerts --test
      enrich alerts --dry-run
      */5 * * * *  enrich alerts     (a line of a crontab)

    Exit codes: 0 done; 1 no channel took the message; 2 wrong configuration.
    """
    if test and dry_run:
        raise click.UsageError("--test and --dry-run exclude each other")
    settings = session.load()
    if not settings.alert_urls and not dry_run:
        raise ConfigurationError(
            "no channel for alerts: set ENRICH_ALERT_URLS (or alerts.urls) to an address of "
            "Apprise such as slack://... or mailto://...; --dry-run needs none"
        )
    if test:
        return _try(settings)
    return _look(settings, dry_run=dry_run)


def _try(settings: Settings) -> int:
    message = channel.Message(
        "enrich: test",
        "This is how alerts of enrich_pipeline reach you. Nothing is wrong.",
        None,
    )
    with terminal.working("Sending"):
        receipts = channel.send(settings.alert_urls, message)
    for receipt in receipts:
        if receipt.is_sent:
            terminal.out().print(f"channel {receipt.channel}: took the message")
        else:
            terminal.error(
                f"channel {receipt.channel}: did not take the message; compare its address with "
                "Apprise's page of that service"
            )
    return DONE if all(receipt.is_sent for receipt in receipts) else FAILED


def _look(settings: Settings, *, dry_run: bool) -> int:
    from enrich_pipeline.orchestration import alerts, instance

    folder = dagster_home.prepare(settings)
    with session.database(settings) as engine, instance.open_instance(folder) as opened:
        if dry_run:
            moment = datetime.now(UTC)
            _show(settings, engine, alerts.standing(engine, opened, settings, moment), moment)
            return DONE
        with terminal.working("Looking"):
            delivery = alerts.tell(engine, opened, settings)
    terminal.out().print(alerts.in_words(delivery), soft_wrap=True)
    return DONE if delivery.is_sent else FAILED


def _show(settings: Settings, engine: Engine, holding: list[Alert], moment: datetime) -> None:
    out = terminal.out()
    with engine.connect() as connection:
        repeat = timedelta(hours=settings.policy.alerts.repeat_hours)
        due = store.due(connection, holding, moment, repeat)
    for alert in holding:
        style = "red" if alert.level is Level.CRITICAL else "yellow"
        out.print(alert.message, style=style, soft_wrap=True)
        out.print("Would be sent now.\n" if alert in due.alerts else "Was sent already.\n")
    for known in due.over:
        out.print(f"Over: {known.title}. Would be sent now.")
    if not holding and not due.over:
        out.print("nothing needs a person")
