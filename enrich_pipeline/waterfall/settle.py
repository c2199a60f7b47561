"""Settlement: a reply becomes results, money and the next step, in one transaction.

Re-runnable from what was stored. A settlement moves only the charge lines it speaks of; a call is
settled when its last line is. Order of locks: the call, its persons, the ledger's, then those of
rate limits and breakers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from enrich_pipeline.domain.credit import divide, usd_micro
from enrich_pipeline.domain.enrichment import (
    ATTRIBUTES,
    FIELD_OF,
    Attribute,
    Field,
    Outcome,
    ValueStatus,
)
from enrich_pipeline.domain.posting import Entry, EntryType, LineChange, LineState, entries
from enrich_pipeline.providers.protocol import (
    MATCHED_NO_DATA,
    Answer,
    Disposition,
    FoundValue,
    InDoubtPolicy,
    Item,
    Reply,
    Verdict,
)
from enrich_pipeline.store import answers, calls, ledger, limits, persons, work
from enrich_pipeline.waterfall.context import Context, database_now
from enrich_pipeline.waterfall.right_person import contradiction

FAILURES_TO_OPEN = 5
PAUSE_SECONDS = 300.0
"""How long a breaker stays open after repeated failures."""
CREDITS_PAUSE_SECONDS = 1800.0
"""How long a product is left alone after its provider ran out of credits or refused the account."""
LONGEST_WAIT_SECONDS = 60.0
"""A provider that wants to be left alone for longer is left to a later drain."""

REREAD = "reread:"
"""Prefix of the settlements that repeat a call in doubt."""
POLL = "poll:"
"""Prefix of the settlements that polls bring."""
_OTHER_PERSON = "other_person"
_OPEN_LINES = (LineState.HELD, LineState.IN_DOUBT, LineState.WRITTEN_OFF)


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
            doubt(conn, ctx, stored, settlement, reply.reason or "not_understood", outcome)
            _failure(conn, stored, reply.reason or "not_understood")
        case _:
            _refused(conn, ctx, stored, reply, settlement, outcome)
    return outcome


# ------------------------------------------------------------------------------- refused as a whole


def _refused(
    conn: Connection,
    ctx: Context,
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
            _reject_record(conn, ctx, stored, settlement, reply.reason or "refused_input")
        else:
            release(conn, ctx, stored, settlement, reason)
            outcome.bisect = reply.disposition is Disposition.INVALID
    _hold_back(conn, stored, reply)


def _hold_back(conn: Connection, stored: calls.StoredCall, reply: Reply) -> None:
    """What a refusal means for other calls to this provider."""
    products = sorted({p for item in stored.items for p in item.products})
    match reply.disposition:
        case Disposition.THROTTLED:
            pause = min(reply.retry_after or 1.0, 3600.0)
            if pause <= LONGEST_WAIT_SECONDS:
                limits.block(conn, stored.provider, pause)
            else:
                everything = [limits.ALL_PRODUCTS]
                limits.trip(conn, stored.provider, everything, "rate_limited", pause)
        case Disposition.TRANSIENT:
            _failure(conn, stored, reply.reason or "transient")
        case Disposition.NO_CREDITS:
            limits.trip(conn, stored.provider, products, "no_credits", CREDITS_PAUSE_SECONDS)
        case Disposition.REFUSED:
            reason = reply.reason or "refused"
            limits.trip(conn, stored.provider, products, reason, CREDITS_PAUSE_SECONDS)
        case Disposition.UNAUTHORIZED:
            limits.trip(
                conn, stored.provider, [limits.ALL_PRODUCTS], "unauthorized", CREDITS_PAUSE_SECONDS
            )
        case _:
            pass


def _failure(conn: Connection, stored: calls.StoredCall, reason: str) -> None:
    limits.count_failure(
        conn,
        stored.provider,
        reason,
        threshold=FAILURES_TO_OPEN,
        pause_seconds=PAUSE_SECONDS,
    )


def release(
    conn: Connection, ctx: Context, stored: calls.StoredCall, settlement: str, reason: str
) -> None:
    """Gives every open hold of the call back, one written off included: nothing was bought."""
    lines = [x for x in calls.lines_of(conn, stored.call_id) if x.state in _OPEN_LINES]
    work.lock_persons(conn, [x.person_id for x in lines], wait=True)
    results = [answers.LineResult(change(x, LineState.RELEASED), None, reason, None) for x in lines]
    touched = {x.line_id for x in lines}
    mine = [a for a in answers.attempts_of(conn, stored.call_id) if a.line_id in touched]
    answers.write_lines(conn, results)
    answers.write_attempts(
        conn, [answers.AttemptResult(a.attempt_id, Outcome.ERROR, reason) for a in mine]
    )
    answers.reopen(conn, [a.enrichment_id for a in mine if a.is_current], reason)
    post_lines(conn, ctx, stored, settlement, results, 0, None)
    calls.close_or_keep(
        conn, stored.call_id, when_open=stored.state, when_closed="released", reason=reason
    )


def _reject_record(
    conn: Connection, ctx: Context, stored: calls.StoredCall, settlement: str, reason: str
) -> None:
    """The one record that made a whole call fail: never sent there again as it is."""
    lines = [x for x in calls.lines_of(conn, stored.call_id) if x.state in _OPEN_LINES]
    work.lock_persons(conn, [x.person_id for x in lines], wait=True)
    results = [
        answers.LineResult(change(x, LineState.RELEASED), Verdict.INVALID_INPUT.value, reason, None)
        for x in lines
    ]
    attempts = answers.attempts_of(conn, stored.call_id)
    answers.write_lines(conn, results)
    answers.write_attempts(
        conn, [answers.AttemptResult(a.attempt_id, Outcome.INVALID_INPUT, reason) for a in attempts]
    )
    work.to_next(conn, [a.enrichment_id for a in attempts if a.is_current])
    post_lines(conn, ctx, stored, settlement, results, 0, None)
    calls.close_or_keep(
        conn, stored.call_id, when_open=stored.state, when_closed="released", reason=reason
    )


# ------------------------------------------------------------------------------- doubt


def doubt(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    settlement: str,
    reason: str,
    outcome: Settled | None = None,
) -> None:
    """Nobody knows whether it was charged: the hold stays unavailable, nothing is sent again."""
    lines = [x for x in calls.lines_of(conn, stored.call_id) if x.state is LineState.HELD]
    work.lock_persons(conn, [x.person_id for x in lines], wait=True)
    results = [answers.LineResult(change(x, LineState.IN_DOUBT), None, reason, None) for x in lines]
    touched = {x.line_id for x in lines}
    mine = [a for a in answers.attempts_of(conn, stored.call_id) if a.line_id in touched]
    answers.write_lines(conn, results)
    answers.write_attempts(
        conn, [answers.AttemptResult(a.attempt_id, Outcome.IN_DOUBT, reason) for a in mine]
    )
    answers.doubt(conn, [a.enrichment_id for a in mine if a.is_current])
    post_lines(conn, ctx, stored, settlement, results, 0, None)
    calls.close_or_keep(
        conn,
        stored.call_id,
        when_open="in_doubt",
        reason=reason,
        write_off_hours=ctx.terms(stored.provider).in_doubt_hours,
    )
    if outcome is not None:
        outcome.in_doubt += len(mine)


def write_off(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    settlement: str,
    reason: str,
    evidence: str | None = None,
) -> None:
    """The horizon passed without evidence: counted as spent in the budgets, not bought again."""
    lines = [x for x in calls.lines_of(conn, stored.call_id) if x.state is LineState.IN_DOUBT]
    work.lock_persons(conn, [x.person_id for x in lines], wait=True)
    results = [
        answers.LineResult(change(x, LineState.WRITTEN_OFF), None, reason, None) for x in lines
    ]
    touched = {x.line_id for x in lines}
    mine = [a for a in answers.attempts_of(conn, stored.call_id) if a.line_id in touched]
    answers.write_lines(conn, results)
    answers.write_attempts(
        conn, [answers.AttemptResult(a.attempt_id, Outcome.WRITTEN_OFF, reason) for a in mine]
    )
    work.to_next(conn, [a.enrichment_id for a in mine if a.is_current])
    post_lines(conn, ctx, stored, settlement, results, 0, None, evidence)
    calls.close_or_keep(
        conn, stored.call_id, when_open="in_doubt", when_closed="written_off", reason=reason
    )


# ------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class _Finding:
    """A final answer matched to its charge line."""

    line: calls.StoredLine
    verdict: str
    reason: str | None
    values: tuple[FoundValue, ...]
    rejected: str | None
    is_charged: bool
    reported_micro: int | None


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
    findings = _findings(conn, ctx, stored, reply, lines)
    if (
        stored.state == "in_doubt"
        and settlement.startswith(REREAD)
        and not _is_complete(lines, findings, reply)
    ):
        # What an incomplete re-read says of the first request's price is not sound.
        return
    if settlement.startswith(REREAD):
        findings = _paid_now(conn, stored, reply, findings)
    costs, unassigned, source = _costs(ctx, stored, reply, findings, settlement)
    if not findings and unassigned:
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
        for f, cost in zip(findings, costs, strict=True)
    ]
    answers.write_lines(conn, results)
    _store_values(conn, ctx, stored, findings, now)
    answers.write_external_ids(
        conn,
        stored.call_id,
        {a.key: a.subject.provider_id for a in reply.answers if a.subject.provider_id},
    )
    provider_ids = _provider_ids(stored, reply)
    answers.write_provider_ids(conn, stored.provider, provider_ids)
    answers.remember_own_knowledge(conn, stored.call_id)
    _refresh_inputs(conn, findings, provider_ids)
    _advance(conn, ctx, stored, findings, results, now, outcome)
    booked = post_lines(conn, ctx, stored, settlement, results, unassigned, source)
    outcome.posted_micro += sum(costs) + unassigned
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
    limits.succeeded(
        conn,
        stored.provider,
        sorted({p for item in stored.items for p in item.products}),
        stored.armed_at,
    )
    if any(r.change.cost_micro > r.change.hold_micro for r in results) or any(
        e.entry_type is EntryType.OVERAGE for e in booked
    ):
        limits.trip(conn, stored.provider, [limits.ALL_PRODUCTS], "cost_above_hold", PAUSE_SECONDS)


def _state_when_open(stored: calls.StoredCall, reply: Reply, settlement: str) -> str:
    """Lines that no reply has ended keep their call waiting, with a deadline."""
    is_taken_on = reply.disposition is Disposition.ACCEPTED and settlement.startswith(REREAD)
    if stored.state in ("sending", "in_doubt", "written_off") and not is_taken_on:
        return stored.state
    return "accepted"


def _findings(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    reply: Reply,
    lines: Sequence[calls.StoredLine],
) -> list[_Finding]:
    """Final answers for lines that are still open, checked for the right person and for consent."""
    by_place = {(x.item_key, x.product): x for x in lines if x.state in _OPEN_LINES}
    items = {i.key: i for i in stored.items or answers.items_now(conn, lines)}
    usable = answers.usable_persons(conn, [x.person_id for x in lines])
    # A mobile that follows a match of somebody else is somebody else's mobile.
    strangers = {x.item_key for x in lines if x.verdict == _OTHER_PERSON}
    findings: list[_Finding] = []
    for answer in reply.answers:
        line = by_place.get((answer.key, answer.product))
        if line is None or answer.verdict is Verdict.PENDING or answer.key not in items:
            continue
        del by_place[(answer.key, answer.product)]
        is_stranger = answer.key in strangers
        findings.append(_judge(stored, answer, line, items[answer.key], usable, is_stranger))
    if reply.disposition is Disposition.ANSWERED:
        answered = {(a.key, a.product) for a in reply.answers}
        findings.extend(
            _Finding(line, "unknown_verdict", "missing_in_reply", (), None, False, None)
            for place, line in by_place.items()
            if place not in answered
        )
    return findings


def _judge(
    stored: calls.StoredCall,
    answer: Answer,
    line: calls.StoredLine,
    item: Item,
    usable: Mapping[int, tuple[bool, bool]],
    is_stranger: bool,
) -> _Finding:
    is_blocked, consents = usable.get(line.person_id, (True, False))
    other = None
    if answer.verdict is Verdict.FOUND:
        other = contradiction(item.person, answer.subject, stored.provider)
        if other is None and is_stranger:
            other = "match_was_other_person"
    values = tuple(
        v
        for v in answer.values
        if not is_blocked and (consents or v.attribute is not Attribute.PERSONAL_EMAIL)
    )
    # Reused work of before our request was charged to whoever asked first.
    is_older = (
        answer.created_at is not None
        and stored.armed_at is not None
        and answer.created_at < stored.armed_at - timedelta(seconds=5)
    )
    has_data = answer.verdict is Verdict.FOUND or answer.reason == MATCHED_NO_DATA
    return _Finding(
        line=line,
        verdict=_OTHER_PERSON if other else answer.verdict.value,
        reason=other
        or (answers.VALUES_DISCARDED if answer.values and not values else answer.reason),
        values=values,
        rejected=_OTHER_PERSON if other else None,
        is_charged=has_data and not is_older,
        reported_micro=answer.cost_micro,
    )


def _is_complete(
    lines: Sequence[calls.StoredLine], findings: Sequence[_Finding], reply: Reply
) -> bool:
    still_open = {x.line_id for x in lines if x.state in _OPEN_LINES}
    judged = {f.line.line_id for f in findings if f.verdict != "unknown_verdict"}
    return reply.disposition is Disposition.ACCEPTED or still_open == judged


def _paid_now(
    conn: Connection,
    stored: calls.StoredCall,
    reply: Reply,
    findings: Sequence[_Finding],
) -> list[_Finding]:
    """Of what a free re-read found, an earlier call may have paid for a part.

    Who does not charge for repetitions did not charge for the first request of this call either.
    """
    ids = {a.key: a.subject.provider_id for a in reply.answers if a.subject.provider_id}
    before = answers.paid_before(conn, stored.provider, stored.call_id, ids)
    return [
        replace(f, is_charged=f.is_charged and (f.line.item_key, f.line.product) not in before)
        for f in findings
    ]


def _costs(
    ctx: Context,
    stored: calls.StoredCall,
    reply: Reply,
    findings: Sequence[_Finding],
    settlement: str,
) -> tuple[list[int], int, str | None]:
    """(cost per finding, cost that no line explains, source), in micro-credits.

    The provider's own figure decides. It is divided over the charged lines by largest remainder on
    the tariff, each at most its hold; the rest is booked on the call. After a free re-read the
    figure says what the repetition cost, so the tariff says what the first request did.
    """
    charged = [f for f in findings if f.is_charged]
    prices = stored.prices
    tariff = [int(prices[f.line.product]) if f.is_charged else 0 for f in findings]
    if not findings:
        # A delivery and a poll report the same charge: without a line that it settles, a figure is
        # a repetition. Only the reply to the request itself may cost something for nobody.
        stray = (reply.cost_micro or 0) if settlement == "submit" else 0
        return [], stray, "reported" if stray else None
    is_reread = settlement.startswith(REREAD)
    if all(f.reported_micro is not None for f in charged) and charged and not is_reread:
        itemized = [f.reported_micro or 0 if f.is_charged else 0 for f in findings]
        if reply.cost_micro is None or sum(itemized) == reply.cost_micro:
            return itemized, 0, "reported"
    if reply.cost_micro is None or is_reread:
        api = ctx.providers[stored.provider]
        total = api.tariff_micro(
            {k: int(v) for k, v in prices.items()}, [f.line.product for f in charged]
        )
        return divide(total, tariff), 0, "tariff"
    costs, rest = [0] * len(findings), reply.cost_micro
    for is_hit in (True, False):
        # What was found explains the bill first; a charged miss only what is left of it.
        part = [
            t if (f.reason != MATCHED_NO_DATA) == is_hit else 0
            for t, f in zip(tariff, findings, strict=True)
        ]
        room = sum(f.line.hold_micro for t, f in zip(part, findings, strict=True) if t)
        for index, share in enumerate(divide(min(rest, room), part)):
            costs[index] += min(share, findings[index].line.hold_micro)
        rest = reply.cost_micro - sum(costs)
    return costs, rest, "reported"


def _store_values(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    findings: Sequence[_Finding],
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


def _provider_ids(stored: calls.StoredCall, reply: Reply) -> dict[int, str]:
    person_of = {item.key: item.person for item in stored.items}
    return {
        person_of[a.key].person_id: a.subject.provider_id
        for a in reply.answers
        if a.subject.provider_id
        and a.key in person_of
        and contradiction(person_of[a.key], a.subject, stored.provider) is None
    }


def _refresh_inputs(
    conn: Connection, findings: Sequence[_Finding], provider_ids: Mapping[int, str]
) -> None:
    """What was just learnt may make the person eligible further down the waterfall."""
    telling = {Attribute.WORK_EMAIL, Attribute.LINKEDIN_URL, Attribute.COMPANY_DOMAIN}
    learnt = {
        f.line.person_id
        for f in findings
        if not f.rejected and any(v.attribute in telling for v in f.values)
    } | set(provider_ids)
    if learnt:
        persons.refresh_inputs(conn, sorted(learnt))


def _advance(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    findings: Sequence[_Finding],
    results: Sequence[answers.LineResult],
    now: datetime,
    outcome: Settled,
) -> None:
    """Writes the attempts' outcomes; accepted fields are finished, the others move on."""
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
    by_line: Mapping[int, _Finding], attempt: answers.StoredAttempt
) -> tuple[int, int]:
    finding = by_line.get(attempt.line_id)
    fields = finding.line.fields if finding else ()
    return attempt.line_id, fields.index(attempt.field) if attempt.field in fields else len(fields)


def _outcome(finding: _Finding, usable: Sequence[FoundValue]) -> Outcome:
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


def change(
    line: calls.StoredLine, after: LineState, cost: int = 0, cost_usd: int = 0
) -> LineChange:
    """A line's way from where it is to `after`."""
    return LineChange(
        line_id=line.line_id,
        person_id=line.person_id,
        before=line.state,
        after=after,
        hold_micro=line.hold_micro,
        hold_usd_micro=line.hold_usd_micro,
        cost_micro=cost,
        cost_usd_micro=cost_usd,
    )


def post_lines(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    settlement: str,
    results: Sequence[answers.LineResult],
    unassigned: int,
    cost_source: str | None,
    evidence: str | None = None,
) -> tuple[Entry, ...]:
    """Books a settlement: ledger entries, day budgets, person budgets. Returns the entries."""
    changes = [r.change for r in results]
    parts = entries(changes, unassigned, stored.usd_micro_per_credit)
    ledger.post(
        conn,
        stored.provider,
        [
            ledger.CallEntries(
                call_id=stored.call_id,
                settlement=settlement,
                provider=stored.provider,
                spend_date=stored.spend_date,
                partition_date=stored.day,
                batch=stored.batch,
                entries=parts,
                cost_source=cost_source,
                evidence=evidence,
            )
        ],
    )
    ledger.move_person_budgets(conn, changes)
    return parts


def may_ask_again(policy: InDoubtPolicy) -> bool:
    """Whether a call in doubt may be sent again, unchanged and free of charge."""
    return policy in (InDoubtPolicy.FREE_REREAD, InDoubtPolicy.NATURAL_IDEMPOTENT)
