"""The sensors that tell people what needs them: every few minutes, and when a run fails."""

from datetime import datetime, timedelta

import dagster as dg
from sqlalchemy import Engine

from enrich_pipeline import settings as configuration
from enrich_pipeline.domain.alert import Alert
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.orchestration.outcomes import failed_runs
from enrich_pipeline.orchestration.resources import guarded, now
from enrich_pipeline.reports import balances
from enrich_pipeline.reports.alerts import conditions
from enrich_pipeline.reports.delivery import Delivery, deliver
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import ready

NO_CHANNEL = "no channel for alerts: set ENRICH_ALERT_URLS, then try it with `enrich alerts --test`"


def standing(
    engine: Engine, instance: dg.DagsterInstance, settings: Settings, moment: datetime
) -> list[Alert]:
    """Everything that needs a person at `moment`."""
    with engine.connect() as connection:
        found = conditions(connection, settings.policy, moment)
    return [*failed_runs(instance, moment), *found]


def tell(engine: Engine, instance: dg.DagsterInstance, settings: Settings) -> Delivery:
    """Look at everything and say what is due; balances are read before, free of charge."""
    moment = now()
    balances.read_due(engine, settings, moment)
    repeat = timedelta(hours=settings.policy.alerts.repeat_hours)
    alerts = standing(engine, instance, settings, moment)
    return deliver(engine, settings.alert_urls, alerts, moment, repeat)


@dg.sensor(
    name="alerts_sensor",
    minimum_interval_seconds=180,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Tells the channels in ENRICH_ALERT_URLS what needs a person: once when it begins, again "
        "after alerts.repeat_hours, and once when it is over. Starts no run."
    ),
)
def alerts_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Every few minutes."""
    return dg.SkipReason(_evaluate(context.instance))


@dg.run_failure_sensor(
    name="failed_run_sensor",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells of a failed run at once; runs that no daemon sees are alerts_sensor's.",
)
def failed_run_sensor(context: dg.RunFailureSensorContext) -> dg.SkipReason:
    """Within half a minute of a failure."""
    return dg.SkipReason(_evaluate(context.instance))


def _evaluate(instance: dg.DagsterInstance) -> str:
    """Tell what is due and say in one line what was done."""
    try:
        settings = configuration.load()
        if not settings.alert_urls:
            return NO_CHANNEL
        engine = ready.open_engine(settings.database_url, settings.is_embedded)
    except ConfigurationError as error:
        return str(error)
    try:
        with guarded("alerts"):
            return in_words(tell(engine, instance, settings))
    finally:
        engine.dispose()


def in_words(delivery: Delivery) -> str:
    """What became of it, in one line."""
    holding = f"{delivery.holding} conditions need a person"
    if delivery.is_other_at_it:
        return f"{holding}; another process is sending now"
    if not delivery.receipts:
        return f"{holding}, nothing new to say" if delivery.holding else "nothing needs a person"
    failed = [receipt.channel for receipt in delivery.receipts if not receipt.is_sent]
    said = f"{delivery.told} told, {delivery.over} over; {holding}"
    if not delivery.is_sent:
        return f"no channel took the message, tried again next time: {', '.join(failed)}"
    return said + (f"; not reached: channel {', '.join(failed)}" if failed else "")
