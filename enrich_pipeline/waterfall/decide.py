"""What to do about one person at one provider: buy, serve from an earlier answer, skip or wait.

Pure: everything it needs was read under the person's lock. Reasons are the words of
`analytics.fct_skips`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import ReusePolicy
from enrich_pipeline.providers.protocol import Offer, Verdict
from enrich_pipeline.store import switch
from enrich_pipeline.store.answers import KNOWN_MISSES
from enrich_pipeline.store.work import KnownPerson, Memory, OpenField

MAX_FAILURES = 3
"""How often a purchase that the provider reported as failed is made anew."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that bears on one person's turn at a provider."""

    person: KnownPerson
    offers: tuple[Offer, ...]
    memory: Mapping[tuple[str, str], Memory]
    """(product, options) -> latest line."""
    on_their_way: frozenset[Field]
    """Live fields of the person that may still come to this provider."""
    unavailable: Mapping[str, str]
    """Product -> why it cannot be bought now."""
    move_on: bool
    """Whether an unavailable provider is passed instead of waited for."""
    why_not_sold: Mapping[Field, str]
    reuse: ReusePolicy
    now: datetime
    is_paused: bool = False
    """Whether operators paused sending: whatever would be bought waits."""


@dataclass(slots=True)
class Decision:
    """What happens to each open field of the person at this provider."""

    buy: dict[str, tuple[Offer, list[OpenField]]] = field(default_factory=dict)
    """Product -> the offer and the fields it shall answer (none for a product merely brought)."""
    serve: list[tuple[OpenField, int]] = field(default_factory=list)
    """Field and the line of the earlier answer."""
    skip: list[tuple[OpenField, str]] = field(default_factory=list)
    wait: list[tuple[OpenField, str]] = field(default_factory=list)
    expire: list[OpenField] = field(default_factory=list)


def decide(fields: Sequence[OpenField], at: Situation) -> Decision:
    """Decides for one person. No field is ever left without a decision."""
    decision = Decision()
    if at.person.is_blocked:
        decision.expire.extend(fields)
        return decision
    for open_field in fields:
        _choose(open_field, at, decision)
    _bring(at, decision)
    _wait_for_siblings(at, decision)
    return decision


def _choose(open_field: OpenField, at: Situation, decision: Decision) -> None:
    inputs = at.person.inputs
    if open_field.field is Field.PERSONAL_EMAIL and not inputs.personal_email_consent:
        decision.skip.append((open_field, "no_consent"))
        return
    if open_field.answered_line is not None:
        decision.serve.append((open_field, open_field.answered_line))
        return
    offer = next((o for o in at.offers if open_field.field in o.fields), None)
    if offer is None:
        decision.skip.append((open_field, at.why_not_sold.get(open_field.field, "not_sold")))
        return
    memory = at.memory.get((offer.product, offer.options))
    if memory is not None and memory.state in ("held", "in_doubt"):
        decision.wait.append((open_field, "asked_already"))
    elif memory is not None and is_live_answer(memory, at.reuse, at.now):
        decision.serve.append((open_field, memory.line_id))
    elif memory is not None and (
        reason := why_not_again(memory, offer, at.person.identity, at.reuse, at.now)
    ):
        decision.skip.append((open_field, reason))
    elif not offer.is_eligible(inputs):
        decision.skip.append((open_field, "not_eligible"))
    elif at.is_paused:
        decision.wait.append((open_field, switch.REASON))
    elif offer.product in at.unavailable:
        why = f"unavailable:{at.unavailable[offer.product]}"
        (decision.skip if at.move_on else decision.wait).append((open_field, why))
    else:
        _, asked = decision.buy.setdefault(offer.product, (offer, []))
        asked.append(open_field)


def is_live_answer(memory: Memory, reuse: ReusePolicy, now: datetime) -> bool:
    """Whether this line's answer is still good enough not to be bought again."""
    return memory.verdict == Verdict.FOUND and _within(memory.answered_at, reuse.found_days, now)


def why_not_again(
    memory: Memory,
    offer: Offer,
    identity: Collection[str],
    reuse: ReusePolicy,
    now: datetime,
) -> str | None:
    """Why a product is not asked for again after what it said last; None when it may be."""
    if memory.state == "written_off":
        recent = _within(memory.settled_at, reuse.not_found_days, now)
        return "written_off" if recent else None
    if memory.verdict in KNOWN_MISSES:
        if not _within(memory.answered_at, reuse.not_found_days, now):
            return None
        if relevant(identity, offer) - memory.sent_identity:
            return None
        return "known_miss" if memory.verdict == Verdict.NOT_FOUND else str(memory.verdict)
    if memory.verdict == Verdict.FAILED:
        if memory.failures >= MAX_FAILURES:
            return "failed_before"
        if memory.answered_at is not None and _utc_day(memory.answered_at) == _utc_day(now):
            return "failed_tonight"
    return None


def relevant(identity: Collection[str], offer: Offer) -> frozenset[str]:
    """The hashed inputs by which this product identifies a person."""
    kinds = {d.value for d in offer.identity}
    return frozenset(h for h in identity if h.partition(":")[0] in kinds)


def _bring(at: Situation, decision: Decision) -> None:
    """Adds what every call for a product buys as well, unless that would be paid twice."""
    for offer, asked in list(decision.buy.values()):
        for product in offer.brings:
            brought = next((o for o in at.offers if o.product == product), None)
            if brought is None or product in decision.buy:
                continue
            memory = at.memory.get((brought.product, brought.options))
            if memory is not None and memory.state in ("held", "in_doubt"):
                del decision.buy[offer.product]
                decision.wait.extend((f, "asked_already") for f in asked)
                break
            is_live = memory is not None and is_live_answer(memory, at.reuse, at.now)
            why_not = (
                why_not_again(memory, brought, at.person.identity, at.reuse, at.now)
                if memory is not None
                else None
            )
            if brought.repeat_is_charged and (is_live or why_not):
                del decision.buy[offer.product]
                decision.skip.extend((f, f"would_pay_{product}_twice") for f in asked)
                break
            # The provider may know by now whom it missed, and charges for both then. Not after a
            # write-off: its answer may still come, and would be a second one that was paid.
            if not is_live and why_not != "written_off":
                decision.buy[product] = (brought, [])


def _wait_for_siblings(at: Situation, decision: Decision) -> None:
    """Waits with a product that a field still on its way would buy a second time."""
    for offer, asked in list(decision.buy.values()):
        if not offer.repeat_is_charged:
            continue
        bringers = [o for o in at.offers if offer.product in o.brings]
        if any(o.product in decision.buy for o in bringers):
            continue
        if any(at.on_their_way & set(o.fields) for o in bringers):
            del decision.buy[offer.product]
            decision.wait.extend((f, "sibling_pending") for f in asked)


def _within(moment: datetime | None, days: int, now: datetime) -> bool:
    return moment is not None and moment > now - timedelta(days=days)


def _utc_day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
