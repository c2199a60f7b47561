"""The night in three sentences of plain language, and what needs a person."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from enrich_pipeline.domain.alert import Alert
from enrich_pipeline.reports.morning import notation, reasons
from enrich_pipeline.reports.morning.figures import Figures, Night, per
from enrich_pipeline.reports.morning.notation import count, counted, usd, usd_each
from enrich_pipeline.reports.morning.unfinished import Unfinished


@dataclass(frozen=True, slots=True)
class Task:
    """Something that stays as it is until somebody acts; a command in `what_to_do` is typed."""

    what: str
    what_to_do: str


def sentences(figures: Figures) -> tuple[str, str, str]:
    """What was stale, what was found, what it cost."""
    return _stale(figures.night), _found(figures), _cost(figures)


def _stale(night: Night) -> str:
    if not night.planned:
        return (
            f"Of {counted(night.contacts, 'contact')}, {count(night.stale)} had something missing "
            "or too old that can be bought, and nothing was planned."
        )
    if night.planned >= night.stale:
        chosen = "all of them"
    elif night.planned >= night.cap:
        chosen = f"the {count(night.planned)} most valuable of them"
    else:
        chosen = f"{count(night.planned)} of them, for whom a provider can be asked"
    return (
        f"Of {counted(night.contacts, 'contact')}, {count(night.stale)} had something missing or "
        f"too old; the night took on {chosen}: {counted(night.values, 'value')} in all."
    )


def _found(figures: Figures) -> str:
    night = figures.night
    if not figures.asked and not night.filled:
        return "No provider was asked, and nothing was filled."
    told = (
        f"Asked {counted(figures.asked, 'time')}, providers found "
        f"{counted(figures.found, 'value')} and vouch for {count(figures.verified)}; "
        f"{count(night.filled)} of the {count(night.values)} are filled"
    )
    if night.reused:
        told += f", {count(night.reused)} from earlier answers at no cost"
    if night.open_values:
        told += f", and {count(night.open_values)} are still open"
    return f"{told}."


def _cost(figures: Figures) -> str:
    night, today = figures.night, figures.today
    told = f"It cost {usd(night.spend_usd)}"
    each = per(night.spend_usd, figures.verified)
    if each is not None and night.spend_usd:
        told += f", {usd_each(each)} for each value vouched for"
    if today.cap_usd:
        used = today.spent_usd + today.open_usd
        told += (
            f"; the day's budget of {usd(today.cap_usd)} is {notation.share(used / today.cap_usd)} "
            "used"
        )
        if today.open_usd:
            told += f", {usd(today.open_usd)} of it for calls without an answer yet"
    return f"{told}."


def tasks(alerts: Sequence[Alert], unfinished: Unfinished) -> tuple[Task, ...]:
    """What needs a person, most urgent first: all alerts, then what is worth a look."""
    return (
        *_alerts(alerts),
        *_paused(unfinished),
        *_waiting(unfinished),
        *_in_doubt(unfinished),
        *_set_aside(unfinished),
        *_rejected(unfinished),
    )


def _alerts(alerts: Sequence[Alert]) -> Iterator[Task]:
    for alert in alerts:
        yield Task(f"{alert.title}. {alert.means}", alert.action)


def _paused(unfinished: Unfinished) -> Iterator[Task]:
    if unfinished.paused is not None:
        since = notation.moment(unfinished.paused.since)
        yield Task(f"Sending is paused since {since} UTC: nothing is bought.", "enrich resume")


def _waiting(unfinished: Unfinished) -> Iterator[Task]:
    """What no alert tells: a provider that is not asked has one."""
    quiet = {breaker.provider for breaker in unfinished.breakers}
    for wait in unfinished.waiting:
        reason = reasons.not_done(wait.reason)
        if reason.is_stuck and wait.provider not in quiet:
            yield Task(
                f"{counted(wait.number, 'value')} wait for {wait.provider}: {reason.words}.",
                reason.what_to_do,
            )


def _in_doubt(unfinished: Unfinished) -> Iterator[Task]:
    calls = sum(doubt.calls for doubt in unfinished.doubts)
    if not calls:
        return
    dollars = sum((doubt.usd for doubt in unfinished.doubts), Decimal(0))
    ends = [doubt.written_off_at for doubt in unfinished.doubts if doubt.written_off_at]
    until = f" from {notation.moment(min(ends))} UTC on" if ends else ""
    was, it_is = ("was", "it is") if calls == 1 else ("were", "they are")
    yield Task(
        f"Nobody knows whether {counted(calls, 'call')} over {usd(dollars)} {was} charged; without "
        f"evidence {it_is} written off{until}.",
        "enrich in-doubt list",
    )


def _set_aside(unfinished: Unfinished) -> Iterator[Task]:
    for each in unfinished.quarantined:
        reason = reasons.set_aside(each.reason)
        if reason.is_stuck:
            yield Task(
                f"{each.provider}: {counted(each.number, 'webhook')} set aside, {reason.words}.",
                reason.what_to_do,
            )


def _rejected(unfinished: Unfinished) -> Iterator[Task]:
    number = sum(each.number for each in unfinished.rejected)
    if number:
        who = ", ".join(f"{each.provider} {count(each.number)}" for each in unfinished.rejected)
        dollars = sum((each.usd for each in unfinished.rejected), Decimal(0))
        yield Task(
            f"{counted(number, 'answer')} ({who}) looked like another person's, cost "
            f"{usd(dollars)} and {'was' if number == 1 else 'were'} not used; judge whether "
            "rightly so.",
            "see analytics.fct_rejected_answers",
        )
