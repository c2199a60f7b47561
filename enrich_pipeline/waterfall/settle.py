"""Settlement: a reply becomes results, money and the next step, in one transaction.

Re-runnable from what was stored. A settlement moves only the charge lines it speaks of; a call is
settled when its last line is. Order of locks: the call, its persons, the ledger's, then those of
rate limits and breakers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from enrich_pipeline.domain.credit import usd_micro
from enrich_pipeline.domain.enrichment import (
    ATTRIBUTES,
    FIELD_OF,
    Field,
    Outcome,
    ValueStatus,
)
from enrich_pipeline.domain.posting import EntryType, LineState
from enrich_pipeline.providers.protocol import (
    Disposition,
    FoundValue,
    Reply,
    Verdict,
)
from enrich_pipeline.store import answers, breakers, calls, persons, work
from enrich_pipeline.waterfall import costs, findings, pauses
from enrich_pipeline.waterfall.booking import REREAD, change, post_lines
from enrich_pipeline.waterfall.context import Context, database_now
from enrich_pipeline.waterfall.findings import Finding, is_news
from enrich_pipeline.waterfall.right_person import ID_OF, contradiction
from enrich_pipeline.waterfall.unanswered import doubt, reject_record, release


@dataclass(slots=True)
class Settled:
    """What one settlement did."""

    found: int = 0
    not_found: int = 0
    posted_micro: int = 0
    in_doubt: int = 0
    retry_after: float | None = None
    disposition: Disposition | None = None
    bisect: bool = False
    reasons: list[str] = field(default_factory=list)


def settle(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    reply: Reply,
    settlement: str,
) -> Settled:
    """Applies one reply to a locked call. `settlement` names it in every ledger key."""
    outcome = Settled(disposition=reply.disposition, retry_after=reply.retry_after)
    answers.write_anomalies(conn, stored.provider, stored.call_id, reply.anomalies)
    match reply.disposition:
        case Disposition.ANSWERED | Disposition.ACCEPTED:
            _apply(conn, ctx, stored, reply, settlement, outcome)
        case Disposition.NOT_READY:
            pass
        case Disposition.IN_DOUBT:
            reason = reply.reason or "not_understood"
            outcome.in_doubt += doubt(conn, ctx, stored, settlement, reason)
            pauses.count_failure(conn, stored, reason)
        case _:
            _refused(conn, stored, reply, settlement, outcome)
    return outcome


# ------------------------------------------------------------------------------- refused as a whole


def _refused(
    conn: Connection,
    stored: calls.StoredCall,
    reply: Reply,
    settlement: str,
    outcome: Settled,
) -> None:
    """The provider's own word that nothing was done; a re-read's refusal proves nothing, though."""
    is_reread = stored.state == "in_doubt" and settlement.startswith(REREAD)
    reason = reply.reason or reply.disposition.value
    is_poison = reply.disposition is Disposition.INVALID and len(stored.items) == 1
    if not is_reread:
        outcome.reasons.append(reason)
        if is_poison:
            reject_record(conn, stored, settlement, reply.reason or "refused_input")
        else:
            release(conn, stored, settlement, reason)
            outcome.bisect = reply.disposition is Disposition.INVALID
    pauses.after_refusal(conn, stored, reply)


# ------------------------------------------------------------------------------- answers


def _apply(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    reply: Reply,
    settlement: str,
    outcome: Settled,
) -> None:
    lines = calls.lines_of(conn, stored.call_id)
    work.lock_persons(conn, [x.person_id for x in lines], wait=True)
    now = database_now(conn)
    found = findings.judged(conn, stored, reply, lines)
    if (
        stored.state == "in_doubt"
        and settlement.startswith(REREAD)
        and not findings.is_complete(lines, found, reply)
    ):
        # What an incomplete re-read says of the first request's price is not sound.
        return
    if settlement.startswith(REREAD):
        found = findings.paid_now(conn, stored, reply, found)
    shares, unassigned, source = costs.of_findings(ctx, stored, reply, found, settlement)
    if not found and unassigned:
        # Kept late, after a repetition or a person settled the call: only what they left unbooked.
        unassigned = max(0, unassigned - answers.booked_micro(conn, stored.call_id))
        source = source if unassigned else None
    results = [
        answers.LineResult(
            change(
                f.line,
                LineState.RELEASED if f.verdict == Verdict.FAILED else LineState.POSTED,
                cost,
                usd_micro(cost, stored.usd_micro_per_credit),
            ),
            f.verdict,
            f.reason,
            source,
        )
        for f, cost in zip(found, shares, strict=True)
    ]
    answers.write_lines(conn, results)
    _store_values(conn, stored, found, now)
    answers.write_external_ids(
        conn,
        stored.call_id,
        {a.key: a.subject.provider_id for a in reply.answers if a.subject.provider_id},
    )
    provider_ids = _provider_ids(stored, reply, findings.strangers(lines, found))
    answers.write_provider_ids(conn, stored.provider, provider_ids)
    if found or provider_ids:
        answers.remember_own_knowledge(conn, stored.call_id)
    _refresh_inputs(conn, stored.provider, found, provider_ids)
    _advance(conn, ctx, stored, found, results, now, outcome)
    booked = post_lines(conn, stored, settlement, results, unassigned, source)
    outcome.posted_micro += sum(shares) + unassigned
    if reply.disposition is Disposition.ACCEPTED:
        answers.note_requested(conn, stored.call_id)
    terms = ctx.terms(stored.provider)
    calls.close_or_keep(
        conn,
        stored.call_id,
        when_open=_state_when_open(stored, reply, settlement),
        job_id=reply.job_id,
        deadline_seconds=terms.deadline_minutes * 60,
        poll_seconds=terms.poll_seconds,
        write_off_hours=terms.in_doubt_hours,
    )
    breakers.succeeded(
        conn,
        stored.provider,
        sorted({p for item in stored.items for p in item.products}),
        stored.armed_at,
    )
    if any(r.change.cost_micro > r.change.hold_micro for r in results) or any(
        e.entry_type is EntryType.OVERAGE for e in booked
    ):
        breakers.trip(
            conn, stored.provider, [breakers.ALL_PRODUCTS], "cost_above_hold", pauses.PAUSE_SECONDS
        )


def _state_when_open(stored: calls.StoredCall, reply: Reply, settlement: str) -> str:
    """Lines that no reply has ended keep their call waiting, with a deadline."""
    is_taken_on = reply.disposition is Disposition.ACCEPTED and settlement.startswith(REREAD)
    if stored.state in ("sending", "in_doubt", "written_off") and not is_taken_on:
        return stored.state
    return "accepted"


def _store_values(
    conn: Connection,
    stored: calls.StoredCall,
    findings: Sequence[Finding],
    now: datetime,
) -> None:
    """Every reported value becomes an observation, those about somebody else as rejected ones."""
    observed = [
        answers.Observed(
            line_id=f.line.line_id,
            attribute=v.attribute.value,
            value=v.value,
            status=v.status.value,
            confidence=v.confidence,
            observed_at=min(v.observed_at or now, now),
            rejected_reason=f.rejected or ("invalid" if v.status is ValueStatus.INVALID else None),
        )
        for f in findings
        for v in f.values
    ]
    answers.write_observations(conn, stored.call_id, stored.provider, observed)


def _provider_ids(
    stored: calls.StoredCall, reply: Reply, strangers: frozenset[str]
) -> dict[int, str]:
    """Who is meant by a provider's own ids; that of somebody else would be asked for ever after."""
    person_of = {item.key: item.person for item in stored.items}
    return {
        person_of[a.key].person_id: a.subject.provider_id
        for a in reply.answers
        if a.subject.provider_id
        and a.key in person_of
        and a.key not in strangers
        and contradiction(person_of[a.key], a.subject, stored.provider) is None
    }


def _refresh_inputs(
    conn: Connection, provider: str, findings: Sequence[Finding], provider_ids: Mapping[int, str]
) -> None:
    """What was just learnt may make the person eligible further down the waterfall.

    Mostly a provider confirms what was known, which changes nothing.
    """
    told = {f.line.person_id for f in findings if not f.rejected and f.values} | set(provider_ids)
    known = work.known_persons(conn, sorted(told)) if told else {}
    # Whoever was merged away meanwhile is not among the known.
    learnt = told - set(known)
    learnt |= {
        f.line.person_id
        for f in findings
        if f.line.person_id in known
        and not f.rejected
        and is_news(known[f.line.person_id].inputs, f.values)
    }
    own_id = ID_OF.get(provider)
    learnt |= {
        person
        for person, external_id in provider_ids.items()
        if own_id is None or (person in known and known[person].inputs.get(own_id) != external_id)
    }
    if learnt:
        persons.refresh_inputs(conn, sorted(learnt))


def _advance(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    findings: Sequence[Finding],
    results: Sequence[answers.LineResult],
    now: datetime,
    outcome: Settled,
) -> None:
    """Writes the attempts' outcomes; accepted fields are finished, the others move on."""
    if not findings:
        return
    by_line = {f.line.line_id: f for f in findings}
    cost_of = {r.change.line_id: r.change for r in results}
    paid: set[int] = set()
    written: list[answers.AttemptResult] = []
    accepted: list[int] = []
    moving: list[int] = []
    attempts = answers.attempts_of(conn, stored.call_id)
    for attempt in sorted(attempts, key=lambda a: _declared_position(by_line, a)):
        finding = by_line.get(attempt.line_id)
        if finding is None:
            continue
        values = [v for v in finding.values if FIELD_OF[v.attribute].value == attempt.field]
        usable = [v for v in values if v.status is not ValueStatus.INVALID]
        result = _outcome(finding, usable)
        change = cost_of[attempt.line_id]
        is_first = attempt.line_id not in paid
        paid.add(attempt.line_id)
        written.append(
            answers.AttemptResult(
                attempt.attempt_id,
                result,
                finding.reason,
                result is Outcome.FOUND and any(v.status is ValueStatus.VERIFIED for v in usable),
                change.cost_micro if is_first else 0,
                change.cost_usd_micro if is_first else 0,
            )
        )
        outcome.found += result is Outcome.FOUND
        outcome.not_found += result in (Outcome.NOT_FOUND, Outcome.OTHER_PERSON)
        settles = result is Outcome.FOUND and _accepts(ctx, Field(attempt.field), usable, now)
        if attempt.is_current:
            (accepted if settles else moving).append(attempt.enrichment_id)
        elif settles and attempt.enrichment_state == "open":
            # An answer that came after its write-off still ends the search.
            accepted.append(attempt.enrichment_id)
    answers.write_attempts(conn, written)
    answers.finish_found(conn, accepted)
    work.to_next(conn, moving)


def _declared_position(
    by_line: Mapping[int, Finding], attempt: answers.StoredAttempt
) -> tuple[int, int]:
    finding = by_line.get(attempt.line_id)
    fields = finding.line.fields if finding else ()
    return attempt.line_id, fields.index(attempt.field) if attempt.field in fields else len(fields)


def _outcome(finding: Finding, usable: Sequence[FoundValue]) -> Outcome:
    match finding.verdict:
        case "other_person":
            return Outcome.OTHER_PERSON
        case Verdict.FOUND:
            return Outcome.FOUND if usable else Outcome.NOT_FOUND
        case Verdict.INVALID_INPUT:
            return Outcome.INVALID_INPUT
        case Verdict.FAILED | "unknown_verdict":
            return Outcome.ERROR
        case _:
            return Outcome.NOT_FOUND


def _accepts(ctx: Context, wanted: Field, values: Sequence[FoundValue], now: datetime) -> bool:
    """Whether these values stop the waterfall: good enough, and not older than stale."""
    policy = ctx.policy.fields[wanted]
    oldest = now - policy.stale_after
    return any(
        v.attribute in ATTRIBUTES[wanted]
        and v.status in policy.accept
        and (v.observed_at is None or v.observed_at >= oldest)
        for v in values
    )


# ------------------------------------------------------------------------------- money
