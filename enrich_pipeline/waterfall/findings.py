"""A reply's answers, matched to the charge lines that are still open, and judged.

Is it about the right person, may it be used, was it paid for with this call?
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from enrich_pipeline.domain.enrichment import Attribute
from enrich_pipeline.providers.protocol import (
    MATCHED_NO_DATA,
    Answer,
    Datapoint,
    Disposition,
    FoundValue,
    Item,
    PersonInputs,
    Reply,
    Verdict,
)
from enrich_pipeline.store import answers, calls
from enrich_pipeline.waterfall.booking import OPEN_LINES
from enrich_pipeline.waterfall.right_person import contradiction

_OTHER_PERSON = "other_person"
_SKEW = timedelta(minutes=10)
"""By how much a provider's clock may be behind the database's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A final answer matched to its charge line."""

    line: calls.StoredLine
    verdict: str
    reason: str | None
    values: tuple[FoundValue, ...]
    rejected: str | None
    is_charged: bool
    reported_micro: int | None


def judged(
    conn: Connection,
    stored: calls.StoredCall,
    reply: Reply,
    lines: Sequence[calls.StoredLine],
    standings: Mapping[int, answers.Standing],
) -> list[Finding]:
    """Final answers for lines that are still open, checked for the right person and for consent."""
    by_place = {(x.item_key, x.product): x for x in lines if x.state in OPEN_LINES}
    items = {i.key: i for i in stored.items or answers.items_now(conn, lines)}
    # What seems to be made shortly before we asked is paid for if another call has paid for it.
    doubtful = {
        a.key: a.subject.provider_id
        for a in reply.answers
        if a.subject.provider_id
        and _made_before(a, stored, timedelta(0))
        and not _made_before(a, stored, _SKEW)
    }
    paid = (
        answers.paid_before(conn, stored.provider, stored.call_id, doubtful) if doubtful else set()
    )
    # A mobile that follows a match of somebody else is somebody else's mobile.
    known_strangers = strangers(lines, ())
    findings: list[Finding] = []
    for answer in reply.answers:
        line = by_place.get((answer.key, answer.product))
        if line is None or answer.verdict is Verdict.PENDING or answer.key not in items:
            continue
        del by_place[(answer.key, answer.product)]
        is_stranger = answer.key in known_strangers
        person = standings.get(line.person_id)
        finding = _judge(stored, answer, line, items[answer.key], person, is_stranger)
        if (answer.key, answer.product) in paid:
            finding = replace(finding, is_charged=False)
        findings.append(finding)
    if reply.disposition is Disposition.ANSWERED:
        answered = {(a.key, a.product) for a in reply.answers}
        findings.extend(
            Finding(line, "unknown_verdict", "missing_in_reply", (), None, False, None)
            for place, line in by_place.items()
            if place not in answered
        )
    return findings


def is_news(known: PersonInputs, values: Sequence[FoundValue]) -> bool:
    """Whether values may change what is known of a person, and sent to providers."""
    told: dict[Attribute, set[str]] = {}
    for value in values:
        told.setdefault(value.attribute, set()).add(value.value)
    expected = {
        Attribute.WORK_EMAIL: known.get(Datapoint.EMAIL),
        Attribute.LINKEDIN_URL: known.linkedin_url,
        Attribute.COMPANY_DOMAIN: known.get(Datapoint.COMPANY_DOMAIN),
        Attribute.COMPANY_NAME: known.get(Datapoint.COMPANY_NAME),
    }
    company = {Attribute.COMPANY_DOMAIN, Attribute.COMPANY_NAME}
    # Name and domain of a company are taken from one reply: half of them is news as well.
    concerned = (told.keys() & expected.keys()) | (company if company & told.keys() else set())
    return any(told.get(attribute, set()) != {expected[attribute]} for attribute in concerned)


def _judge(
    stored: calls.StoredCall,
    answer: Answer,
    line: calls.StoredLine,
    item: Item,
    person: answers.Standing | None,
    is_stranger: bool,
) -> Finding:
    may_keep = person is not None and not person.is_blocked
    consents = person is not None and person.consents
    other = None
    if answer.verdict is Verdict.FOUND:
        other = contradiction(item.person, answer.subject, stored.provider)
        if other is None and is_stranger:
            other = "match_was_other_person"
    values = tuple(
        v
        for v in answer.values
        if may_keep and (consents or v.attribute is not Attribute.PERSONAL_EMAIL)
    )
    # Reused work of before our request was charged to whoever asked first.
    is_older = _made_before(answer, stored, _SKEW)
    has_data = answer.verdict is Verdict.FOUND or answer.reason == MATCHED_NO_DATA
    return Finding(
        line=line,
        verdict=_OTHER_PERSON if other else answer.verdict.value,
        reason=other
        or (answers.VALUES_DISCARDED if answer.values and not values else answer.reason),
        values=values,
        rejected=_OTHER_PERSON if other else None,
        is_charged=has_data and not is_older,
        reported_micro=answer.cost_micro,
    )


def _made_before(answer: Answer, stored: calls.StoredCall, margin: timedelta) -> bool:
    made_at, armed_at = answer.created_at, stored.armed_at
    return made_at is not None and armed_at is not None and made_at < armed_at - margin


def is_complete(
    lines: Sequence[calls.StoredLine], findings: Sequence[Finding], reply: Reply
) -> bool:
    still_open = {x.line_id for x in lines if x.state in OPEN_LINES}
    judged = {f.line.line_id for f in findings if f.verdict != "unknown_verdict"}
    return reply.disposition is Disposition.ACCEPTED or still_open == judged


def paid_now(
    conn: Connection,
    stored: calls.StoredCall,
    reply: Reply,
    findings: Sequence[Finding],
) -> list[Finding]:
    """Of what a free re-read found, an earlier call may have paid for a part.

    Who does not charge for repetitions did not charge for the first request of this call either,
    nor twice for one human whom the call has as two persons.
    """
    ids = {a.key: a.subject.provider_id for a in reply.answers if a.subject.provider_id}
    before = answers.paid_before(conn, stored.provider, stored.call_id, ids)
    paid: set[tuple[str, str]] = set()
    seen: list[Finding] = []
    for f in findings:
        is_charged = f.is_charged and (f.line.item_key, f.line.product) not in before
        if is_charged and (external_id := ids.get(f.line.item_key)):
            is_charged = (external_id, f.line.product) not in paid
            paid.add((external_id, f.line.product))
        seen.append(replace(f, is_charged=is_charged))
    return seen


def strangers(lines: Iterable[calls.StoredLine], findings: Iterable[Finding]) -> frozenset[str]:
    """Items about whom a provider has spoken of somebody else, now or in an earlier reply."""
    return frozenset(
        {x.item_key for x in lines if x.verdict == _OTHER_PERSON}
        | {f.line.item_key for f in findings if f.verdict == _OTHER_PERSON}
    )
