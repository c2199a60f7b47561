"""Claiming: choosing who is asked next, and holding the credits before anything is sent.

One transaction claims as many full calls as can be in flight. Calls are filled across all persons
of the partition at this stage: a rest that does not fill a call is carried over, and only the last
call of each kind may be short.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import Connection

from enrich_pipeline.domain.batching import call_sizes
from enrich_pipeline.domain.enrichment import ATTRIBUTES, Field
from enrich_pipeline.domain.policy import micro
from enrich_pipeline.providers.protocol import Item, Offer
from enrich_pipeline.store import breakers, ledger, reservations, switch, work
from enrich_pipeline.waterfall.context import Context, Partition, database_now
from enrich_pipeline.waterfall.decide import Decision, Situation, decide
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.reserve import (
    Claimed,
    Want,
    hold_of,
    need_of,
    open_budgets,
    reserve,
)
from enrich_pipeline.waterfall.right_person import ID_OF


@dataclass(slots=True)
class Cursor:
    """How far one stage has come through the partition's persons."""

    earlier: frozenset[str] = frozenset()
    """Providers whose stages come first and go on: it works ahead, on whom they have done with."""
    after: tuple[int, int] = (-1, -1)
    carry: list[int] = field(default_factory=list)
    is_through: bool = False
    budget_short: bool = False
    """A hold did not fit, but open holds may free enough."""
    skipped: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    persons: int = 0
    busy: int = 0
    """Persons whom another process was working on: the next pass looks at them again."""

    @property
    def is_last(self) -> bool:
        """Nobody more will come: a call may be short now."""
        return self.is_through and not self.earlier

    @property
    def is_done(self) -> bool:
        return self.is_through and not (self.is_last and self.carry)


def claim(
    ctx: Context,
    partition: Partition,
    provider: str,
    cursor: Cursor,
    want_calls: int,
    *,
    receiver_ready: bool,
    last_chance: bool,
) -> list[Claimed]:
    """Reserves up to about `want_calls` calls; an empty list with `cursor.is_done` ends the stage.

    `last_chance`: nothing is in flight, so a hold that does not fit now will not fit later either.
    """
    with ctx.engine.begin() as conn:
        ledger.open_accounts(conn, provider)
        # Once: who waits for a lock over midnight holds against the budgets that it has opened.
        day = reservations.today(conn)
        limit = max(1, want_calls) * ctx.maximum(provider)
        page = [] if cursor.is_through else _page(conn, ctx, partition, provider, cursor, limit)
        persons = [*cursor.carry, *(person for _, person in page)]
        cursor.carry = []
        if not persons:
            return []
        decisions = _decide(conn, ctx, partition, provider, cursor, persons, receiver_ready)
        wants = _wants(conn, ctx, provider, day, cursor, decisions)
        drafts, kept_back = _cut(ctx, provider, cursor, wants)
        drafts = _fit(conn, ctx, provider, day, cursor, drafts, last_chance=last_chance)
        cursor.carry.extend(kept_back)
        claimed = reserve(conn, ctx, partition, provider, day, drafts)
        reached("claiming")
        return claimed


def fills_a_call(ctx: Context, partition: Partition, provider: str, cursor: Cursor) -> bool:
    """Whether as many persons are left for `cursor` as a call takes; locks nobody."""
    full = ctx.maximum(provider)
    with ctx.engine.connect() as conn:
        return len(_page(conn, ctx, partition, provider, replace(cursor), full)) == full


def _page(
    conn: Connection,
    ctx: Context,
    partition: Partition,
    provider: str,
    cursor: Cursor,
    limit: int,
) -> list[tuple[int, int]]:
    page = work.candidates(
        conn,
        partition.day,
        partition.batch,
        provider,
        ctx.fields,
        cursor.after,
        limit,
        cursor.earlier,
    )
    if page:
        cursor.after = page[-1]
    cursor.is_through = len(page) < limit
    return page


def _decide(
    conn: Connection,
    ctx: Context,
    partition: Partition,
    provider: str,
    cursor: Cursor,
    persons: Sequence[int],
    receiver_ready: bool,
) -> dict[int, tuple[work.KnownPerson, Decision]]:
    locked = sorted(work.lock_persons(conn, persons, wait=False))
    cursor.busy += len(set(persons)) - len(locked)
    open_fields: dict[int, list[work.OpenField]] = {}
    now = database_now(conn)
    for row in _open_fields(conn, ctx, provider, locked, now):
        open_fields.setdefault(row.person_id, []).append(row)
    known = work.known_persons(conn, locked)
    memory: dict[int, dict[tuple[str, str], work.Memory]] = {}
    for (person, product, options), line in work.memories(conn, provider, locked).items():
        memory.setdefault(person, {})[(product, options)] = line
    for person in work.engaged(conn, cursor.earlier, locked):
        open_fields.pop(person, None)
    on_their_way = work.fields_on_their_way(conn, provider, locked)
    opened = breakers.open_breakers(conn, provider)
    is_paused = switch.paused(conn) is not None
    api, terms = ctx.providers[provider], ctx.terms(provider)
    decisions: dict[int, tuple[work.KnownPerson, Decision]] = {}
    for person, fields in open_fields.items():
        who = known.get(person)
        if who is None:
            # Merged into another a moment ago, who takes over what is open.
            continue
        consented = who.inputs.personal_email_consent
        offers = ctx.offers(provider, consented=consented)
        situation = Situation(
            person=who,
            offers=offers,
            memory=with_larger_answers(ctx, provider, consented, memory.get(person, {})),
            on_their_way=on_their_way.get(person, frozenset()),
            unavailable=_unavailable(offers, opened, receiver_ready),
            move_on=terms.on_unavailable == "next",
            why_not_sold={
                f: str(reason)
                for f in Field
                if (reason := api.unavailable(f, consented=consented)) is not None
            },
            reuse=ctx.policy.reuse,
            now=now,
            is_paused=is_paused,
        )
        decisions[person] = (who, decide(fields, situation))
    _carry_out(conn, ctx, partition, provider, cursor, [d for _, d in decisions.values()], now)
    return decisions


def _open_fields(
    conn: Connection, ctx: Context, provider: str, persons: Sequence[int], now: datetime
) -> list[work.OpenField]:
    """Open fields; what a merged person was told settles one only if it is good enough for it."""
    found = work.open_fields(conn, provider, ctx.fields, persons)
    told = [f.answered_line for f in found if f.answered_line is not None]
    values = work.answered_values(conn, told) if told else {}
    return [
        f
        if f.answered_line is None
        or is_accepted(ctx, f.field, values.get(f.answered_line, []), now)
        else replace(f, answered_line=None)
        for f in found
    ]


def with_larger_answers(
    ctx: Context,
    provider: str,
    consented: bool,
    memory: Mapping[tuple[str, str], work.Memory],
) -> Mapping[tuple[str, str], work.Memory]:
    """What was bought while the person consented answers the smaller question asked without."""
    if consented:
        return memory
    known = dict(memory)
    with_consent = {o.product: o.options for o in ctx.offers(provider, consented=True)}
    for offer in ctx.offers(provider, consented=False):
        larger = memory.get((offer.product, with_consent.get(offer.product, offer.options)))
        own = known.get((offer.product, offer.options))
        if larger is not None and (own is None or own.line_id < larger.line_id):
            known[(offer.product, offer.options)] = larger
    return known


def _unavailable(
    offers: Iterable[Offer], opened: Mapping[str, breakers.Breaker], receiver_ready: bool
) -> dict[str, str]:
    closed: dict[str, str] = {}
    for offer in offers:
        breaker = opened.get(breakers.ALL_PRODUCTS) or opened.get(offer.product)
        if breaker is not None and not breaker.may_probe:
            closed[offer.product] = breaker.reason
        elif offer.needs_webhook and not receiver_ready:
            closed[offer.product] = "receiver_unreachable"
    return closed


def _carry_out(
    conn: Connection,
    ctx: Context,
    partition: Partition,
    provider: str,
    cursor: Cursor,
    decisions: Sequence[Decision],
    now: datetime,
) -> None:
    """Everything that costs nothing: skips, answers from memory, waiting, expiry."""
    served = [(f, line) for d in decisions for f, line in d.serve]
    values = work.answered_values(conn, [line for _, line in served]) if served else {}
    moves = [
        work.Advance(f.enrichment_id, f.person_id, f.field, reason)
        for d in decisions
        for f, reason in d.skip
    ]
    cursor.skipped.update(move.reason for move in moves)
    for open_field, line in served:
        accepted = is_accepted(ctx, open_field.field, values.get(line, []), now)
        cursor.reused += accepted
        moves.append(
            work.Advance(
                open_field.enrichment_id,
                open_field.person_id,
                open_field.field,
                "known_miss" if not accepted else "",
                line if accepted else None,
            )
        )
    work.advance(conn, moves, provider, partition.day, partition.batch, ctx.run_id)
    waits = {f.enrichment_id: reason for d in decisions for f, reason in d.wait}
    cursor.waiting.update(waits.values())
    if waits:
        work.wait_at(conn, waits)
    expired = [f.enrichment_id for d in decisions for f in d.expire]
    if expired:
        cursor.skipped["suppressed"] += len(expired)
        work.expire(conn, expired)


def is_accepted(
    ctx: Context, wanted: Field, values: Iterable[work.AnsweredValue], now: datetime
) -> bool:
    """Whether values that an earlier line brought settle a field: good enough, and not stale."""
    policy = ctx.policy.fields[wanted]
    names = {a.value for a in ATTRIBUTES[wanted]}
    oldest = now - policy.stale_after
    return any(
        v.attribute in names and v.status in policy.accept and v.observed_at >= oldest
        for v in values
    )


def _wants(
    conn: Connection,
    ctx: Context,
    provider: str,
    day: date,
    cursor: Cursor,
    decisions: Mapping[int, tuple[work.KnownPerson, Decision]],
) -> dict[str, list[Want]]:
    """Cuts what shall be bought into groups of like calls; persons without budget wait."""
    buyers = {p: (who, d) for p, (who, d) in decisions.items() if d.buy}
    if not buyers:
        return {}
    budget = ctx.policy.budget
    free = ledger.open_person_budgets(
        conn, list(buyers), micro(budget.person_usd), budget.person_days
    )
    tariff = ctx.terms(provider).tariff(day)
    wants: dict[str, list[Want]] = {}
    own_id = ID_OF.get(provider)
    taken: set[str] = set()
    waits: dict[int, str] = {}
    for person, (who, decision) in buyers.items():
        cost = sum(hold_of(ctx, provider, tariff, p)[1] for p in decision.buy)
        known = who.inputs.get(own_id) if own_id else None
        # Two persons whom nothing joins may carry one id, and one call could not tell them apart.
        reason = "asked_already" if known in taken else "person_budget"
        if known in taken or cost > free[person]:
            asked = [f for _, fields in decision.buy.values() for f in fields]
            waits.update((f.enrichment_id, reason) for f in asked)
            continue
        if known:
            taken.add(known)
        offers = [offer for offer, _ in decision.buy.values()]
        for group, members in ctx.providers[provider].groups(offers):
            item = Item(
                key=f"p{person}",
                person=who.inputs,
                products=frozenset(o.product for o in members),
            )
            asked_by = {
                o.product: tuple(f.enrichment_id for f in decision.buy[o.product][1])
                for o in members
            }
            wants.setdefault(group, []).append(
                Want(item, tuple((o, asked_by[o.product]) for o in members), who.identity)
            )
    if waits:
        cursor.waiting.update(waits.values())
        work.wait_at(conn, waits)
    return wants


def _cut(
    ctx: Context, provider: str, cursor: Cursor, wants: Mapping[str, list[Want]]
) -> tuple[list[tuple[str, list[Want]]], list[int]]:
    """Cuts wants into calls; returns them and the persons kept back for a fuller call."""
    bounds = ctx.providers[provider].limits
    maximum = ctx.maximum(provider)
    drafts: list[tuple[str, list[Want]]] = []
    kept_back: list[int] = []
    for group, members in sorted(wants.items()):
        usable = len(members) if cursor.is_last else len(members) // maximum * maximum
        start = 0
        for size in call_sizes(usable, bounds.minimum, maximum, single=bounds.single):
            drafts.append((group, members[start : start + size]))
            start += size
        if cursor.is_last and start < len(members):
            cursor.waiting["below_minimum"] += len(members) - start
        elif not cursor.is_last:
            kept_back.extend(w.item.person.person_id for w in members[start:])
    return drafts, kept_back


def _fit(
    conn: Connection,
    ctx: Context,
    provider: str,
    day: date,
    cursor: Cursor,
    drafts: list[tuple[str, list[Want]]],
    *,
    last_chance: bool,
) -> list[tuple[str, list[Want]]]:
    """Shrinks calls to what the budgets allow.

    What does not fit is carried over while open holds may free enough. It is recorded as waiting
    for the budget only when nothing is in flight that could.
    """
    if not drafts:
        return []
    night, own = open_budgets(conn, ctx, provider, day)
    bounds = ctx.providers[provider].limits
    smallest = 1 if bounds.single else bounds.minimum
    free_usd, free_micro = night.free, own.free
    fitting: list[tuple[str, list[Want]]] = []
    left_out: list[Want] = []
    for group, members in drafts:
        kept = 0
        for want in members:
            need_micro, need_usd = need_of(ctx, provider, day, want)
            if need_usd > free_usd or need_micro > free_micro:
                break
            free_usd, free_micro = free_usd - need_usd, free_micro - need_micro
            kept += 1
        if kept < smallest:
            kept = 0
        if kept:
            fitting.append((group, members[:kept]))
        left_out.extend(members[kept:])
    if not left_out:
        cursor.budget_short = False
        return fitting
    if fitting or not last_chance:
        cursor.budget_short = True
        cursor.carry.extend(w.item.person.person_id for w in left_out)
        return fitting
    waits = {e: "budget" for w in left_out for _, asked in w.offers for e in asked}
    cursor.waiting["budget"] += len(waits)
    work.wait_at(conn, waits)
    return fitting
