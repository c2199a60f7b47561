"""Puts the page together: one HTML file that needs nothing but a browser."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy import Engine

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.reports import alerts
from enrich_pipeline.reports.morning import charts, notation, reasons
from enrich_pipeline.reports.morning.figures import WINDOW_DAYS, Figures, figures, last_night
from enrich_pipeline.reports.morning.sentences import Task, sentences, tasks
from enrich_pipeline.reports.morning.unfinished import Unfinished, Waiting, unfinished

_AMOUNT = re.compile(r"(\$?\d+(?:,\d{3})*(?:\.\d+)?%?)")


@dataclass(frozen=True, slots=True)
class Report:
    """One night as read at one moment."""

    figures: Figures
    unfinished: Unfinished
    tasks: tuple[Task, ...]
    written_at: datetime
    is_last_night: bool
    """What needs a person is of the moment of writing, whichever night the page is of."""

    @property
    def day(self) -> date:
        return self.figures.night.day


def read(engine: Engine, policy: Policy, day: date | None, now: datetime) -> Report:
    """Read the night of `day`, or the last one, in one snapshot of the database.

    Raises:
        ConfigurationError: there is no such night; the message names the command that makes one.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn:
        last = last_night(conn)
        wanted = day or last
        found = wanted and figures(conn, policy, wanted, now)
        if not wanted or not found:
            raise ConfigurationError(_no_night(day))
        open_now = unfinished(conn, wanted)
        needed = tasks(alerts.conditions(conn, policy, now), open_now)
        return Report(found, open_now, needed, now, is_last_night=wanted == last)


def _no_night(day: date | None) -> str:
    if day is None:
        return "there was no night yet, so there is nothing to report: run `enrich refresh`"
    return f"there was no night of {day}: run `enrich refresh --date {day}`, or name another --date"


def render(report: Report) -> str:
    """The page as text."""
    found = report.figures
    by_field = {
        field: [step for step in found.steps if step.field == field]
        for field in dict.fromkeys(step.field for step in found.steps)
    }
    longest = max((step.asked + step.reused for step in found.steps), default=0)
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            figures=found,
            night=found.night,
            open=report.unfinished,
            sentences=sentences(found),
            tasks=report.tasks,
            by_field=by_field,
            waiting=_waiting(report.unfinished.waiting),
            window=WINDOW_DAYS,
            ages=charts.AGES,
            caps_fit=charts.caps_fit(found.spend_days),
            pictures={
                "coverage": charts.coverage(found.coverage),
                "waterfall": {f: charts.waterfall(s, longest) for f, s in by_field.items()},
                "spend": charts.spend(found.spend_days),
                "cost": charts.cost(found.providers) if found.providers else "",
                "ages": charts.ages(found.ages) if found.ages else "",
            },
        )
    )


def _waiting(waiting: Iterable[Waiting]) -> Counter[tuple[str, reasons.Reason]]:
    """By provider and what is said of the reason: several words of ours may say the same."""
    counted: Counter[tuple[str, reasons.Reason]] = Counter()
    for each in waiting:
        counted[each.provider, reasons.not_done(each.reason)] += each.number
    return counted


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": notation.count,
        "usd": notation.usd,
        "usd_each": notation.usd_each,
        "share": notation.share,
        "field": notation.field,
        "moment": notation.moment,
        "emphasized": _emphasized,
    }
    environment.globals |= {
        "gain": notation.gain,
        "long_day": notation.long_day,
        "not_done": reasons.not_done,
        "stopped": reasons.stopped,
        "set_aside": reasons.set_aside,
    }
    return environment


def _emphasized(sentence: str) -> Markup:
    """The figures of a sentence stand out."""
    return Markup().join(
        Markup("<b>{}</b>").format(part) if _AMOUNT.fullmatch(part) else part
        for part in _AMOUNT.split(sentence)
    )
