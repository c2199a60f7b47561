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
    Attribute,
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
from enrich_pipeline.store.decisions import any_suppressed
from enrich_pipeline.waterfall import costs, findings, pauses
from enrich_pipeline.waterfall.booking import REREAD, Booking, change, post_lines
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
    if reply.disposition in (Disposition.ANSWERED, Disposition.ACCEPTED):
        alone = [Settlement(stored, reply, settlement)]
        return settle_together(conn, ctx, stored.provider, alone)[stored.call_id]
    outcome = Settled(disposition=reply.disposition, retry_after=reply.retry_after)
    answers.write_anomalies(conn, stored.provider, stored.call_id, reply.anomalies)
    match reply.disposition:
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
    """The provider's own word that nothing was done.

    Of a call that was sent twice it is the word about one of the two, and proves nothing.
    """
    is_one_of_two = stored.state == "in_doubt" and (
        settlement.startswith(REREAD) or stored.sends > 1
    )
    reason = reply.reason or reply.disposition.value
    is_poison = reply.disposition is Disposition.INVALID and len(stored.items) == 1
    if not is_one_of_two:
        outcome.reasons.append(reason)
        if is_poison:
            reject_record(conn, stored, settlement, reply.reason or "refused_input")
        else:
            release(conn, stored, settlement, reason)
            outcome.bisect = reply.disposition is Disposition.INVALID
    pauses.after_refusal(conn, stored, reply)


# ------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Settlement:
    """One reply to one locked call; `name` is part of every key that it writes into the ledger."""

    stored: calls.StoredCall
    reply: Reply
    name: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """A settlement with what it finds, and what that costs."""

    settlement: Settlement
    findings: Sequence[Finding]
    booking: Booking
    provider_ids: Mapping[int, str]
    outcome: Settled

    @property
    def call_id(self) -> int:
        return self.settlement.stored.call_id


def settle_together(
    conn: Connection, ctx: Context, provider: str, settlements: Sequence[Settlement]
) -> dict[int, Settled]:
    """Applies answers to several locked calls of one provider; what each did, by call.

    Only those in which nobody is who is in one before them, by our name or the provider's: each
    then does what it would have done alone. The others are not touched.
    """
    if not settlements:
        return {}
    lines: dict[int, list[calls.StoredLine]] = {}
    for line in calls.lines_of(conn, [s.stored.call_id for s in settlements]):
        lines.setdefault(line.call_id, []).append(line)
    people = [x.person_id for each in lines.values() for x in each]
    work.lock_persons(conn, people, wait=True)
    standings = answers.standings(conn, people)
    now = database_now(conn)
    taken: set[int] = set()
    named: set[str] = set()
    judged: list[_Judged] = []
    done: dict[int, Settled] = {}
    for settlement in settlements:
        mine = lines.get(settlement.stored.call_id, [])
        members = {x.person_id for x in mine}
        members |= {standings[p].survivor for p in members if p in standings}
        ids = {i for a in settlement.reply.answers if (i := a.subject.provider_id)}
        if members & taken or ids & named:
            continue
        taken |= members
        named |= ids
        outcome = Settled(
            disposition=settlement.reply.disposition, retry_after=settlement.reply.retry_after
        )
        done[settlement.stored.call_id] = outcome
        answers.write_anomalies(
            conn, provider, settlement.stored.call_id, settlement.reply.anomalies
        )
        each = _judge(conn, ctx, settlement, mine, standings, outcome)
        if each is not None:
            judged.append(each)
    if judged:
        _apply(conn, ctx, provider, judged, standings, now)
    return done


def _judge(
    conn: Connection,
    ctx: Context,
    settlement: Settlement,
    lines: Sequence[calls.StoredLine],
    standings: Mapping[int, answers.Standing],
    outcome: Settled,
) -> _Judged | None:
    """None for an incomplete re-read: what it says of the first request's price is not sound."""
    stored, reply, name = settlement.stored, settlement.reply, settlement.name
    is_reread = name.startswith(REREAD)
    found = findings.judged(conn, stored, reply, lines, standings)
    if stored.state == "in_doubt" and is_reread and not findings.is_complete(lines, found, reply):
        return None
    if is_reread:
        found = findings.paid_now(conn, stored, reply, found)
    shares, unassigned, source = costs.of_findings(ctx, stored, reply, found, name)
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
    outcome.posted_micro += sum(shares) + unassigned
    return _Judged(
        settlement,
        found,
        Booking(stored, name, results, unassigned, source),
        _provider_ids(stored, reply, findings.strangers(lines, found)),
        outcome,
    )


def _apply(
    conn: Connection,
    ctx: Context,
    provider: str,
    judged: Sequence[_Judged],
    standings: Mapping[int, answers.Standing],
    now: datetime,
) -> None:
    results = [r for each in judged for r in each.booking.results]
    answers.write_lines(conn, results)
    found = [f for each in judged for f in each.findings]
    attempts = answers.attempts_of(conn, [each.call_id for each in judged])
    _store_values(conn, provider, found, attempts, standings, now)
    answers.write_external_ids(
        conn,
        {
            (each.call_id, a.key): a.subject.provider_id
            for each in judged
            for a in each.settlement.reply.answers
            if a.subject.provider_id
        },
    )
    provider_ids = {p: known for each in judged for p, known in each.provider_ids.items()}
    answers.write_provider_ids(conn, provider, provider_ids)
    answers.remember_own_knowledge(
        conn, [each.call_id for each in judged if each.findings or each.provider_ids]
    )
    _refresh_inputs(conn, provider, found, provider_ids)
    _advance(conn, ctx, judged, attempts, now)
    post_lines(conn, provider, [each.booking for each in judged])
    answers.note_requested(
        conn,
        [
            each.call_id
            for each in judged
            if each.settlement.reply.disposition is Disposition.ACCEPTED
        ],
    )
    terms = ctx.terms(provider)
    calls.close_or_keep(
        conn,
        [
            calls.Closing(
                each.call_id,
                when_open=_state_when_open(each.settlement),
                job_id=each.settlement.reply.job_id,
                deadline_seconds=terms.deadline_minutes * 60,
                poll_seconds=terms.poll_seconds,
                write_off_hours=terms.in_doubt_hours,
            )
            for each in judged
        ],
    )
    breakers.succeeded(
        conn,
        provider,
        [
            ({p for item in stored.items for p in item.products}, stored.armed_at)
            for stored in (each.settlement.stored for each in judged)
        ],
    )
    if any(r.change.cost_micro > r.change.hold_micro for r in results) or any(
        e.entry_type is EntryType.OVERAGE for each in judged for e in each.booking.entries
    ):
        breakers.trip(
            conn, provider, [breakers.ALL_PRODUCTS], "cost_above_hold", pauses.PAUSE_SECONDS
        )


def _state_when_open(settlement: Settlement) -> str:
    """Lines that no reply has ended keep their call waiting, with a deadline."""
    is_taken_on = settlement.reply.disposition is Disposition.ACCEPTED and (
        settlement.name.startswith(REREAD)
    )
    if settlement.stored.state in ("sending", "in_doubt", "written_off") and not is_taken_on:
        return settlement.stored.state
    return "accepted"


def _store_values(
    conn: Connection,
    provider: str,
    findings: Sequence[Finding],
    attempts: Sequence[answers.StoredAttempt],
    standings: Mapping[int, answers.Standing],
    now: datetime,
) -> None:
    """Every reported value becomes an observation, those about somebody else as rejected ones.

    Of a person who was merged away it is the survivor's.
    """
    asked: dict[int, list[answers.StoredAttempt]] = {}
    for attempt in attempts:
        asked.setdefault(attempt.line_id, []).append(attempt)
    observed = [
        answers.Observed(
            person_id=standings[f.line.person_id].survivor,
            call_id=f.line.call_id,
            line_id=f.line.line_id,
            attempt_id=_answered(asked.get(f.line.line_id, ()), FIELD_OF[v.attribute]),
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
    answers.write_observations(conn, provider, observed)


def _answered(attempts: Sequence[answers.StoredAttempt], told: Field) -> int | None:
    """The attempt for the very field, else the first of those that the line answers."""
    asked = (a.attempt_id for a in attempts if a.field == told.value)
    return next(asked, attempts[0].attempt_id if attempts else None)


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
    private = {
        f.line.person_id
        for f in findings
        if not f.rejected and any(v.attribute is Attribute.PERSONAL_EMAIL for v in f.values)
    }
    if private and any_suppressed(conn):
        # A private address is sent to nobody, but its owner may have objected under it.
        learnt |= private
    if learnt:
        persons.refresh_inputs(conn, sorted(learnt))


def _advance(
    conn: Connection,
    ctx: Context,
    judged: Sequence[_Judged],
    attempts: Sequence[answers.StoredAttempt],
    now: datetime,
) -> None:
    """Writes the attempts' outcomes; accepted fields are finished, the others move on."""
    by_line = {f.line.line_id: (each, f) for each in judged for f in each.findings}
    if not by_line:
        return
    cost_of = {r.change.line_id: r.change for each in judged for r in each.booking.results}
    paid: set[int] = set()
    written: list[answers.AttemptResult] = []
    accepted: list[int] = []
    moving: list[int] = []
    mine = [a for a in attempts if a.line_id in by_line]
    for attempt in sorted(mine, key=lambda a: _declared_position(by_line[a.line_id][1], a)):
        each, finding = by_line[attempt.line_id]
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
        each.outcome.found += result is Outcome.FOUND
        each.outcome.not_found += result in (Outcome.NOT_FOUND, Outcome.OTHER_PERSON)
        settles = result is Outcome.FOUND and _accepts(ctx, Field(attempt.field), usable, now)
        if attempt.is_current:
            (accepted if settles else moving).append(attempt.enrichment_id)
        elif settles and attempt.enrichment_state == "open":
            # An answer that came after its write-off still ends the search.
            accepted.append(attempt.enrichment_id)
    answers.write_attempts(conn, written)
    answers.finish_found(conn, accepted)
    work.to_next(conn, moving)


def _declared_position(finding: Finding, attempt: answers.StoredAttempt) -> tuple[int, int]:
    fields = finding.line.fields
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
