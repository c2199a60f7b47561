"""Reserving: the intent and the holds of calls that were cut are written before any is sent.

So is what takes the place of a call that was refused because of one bad record: its halves.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection

from enrich_pipeline.domain.credit import usd_micro
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import Tariff, micro
from enrich_pipeline.domain.posting import Entry, EntryType
from enrich_pipeline.providers.http import encode
from enrich_pipeline.providers.protocol import Call, HttpRequest, Item, Offer
from enrich_pipeline.store import calls, ledger, reservations, work
from enrich_pipeline.waterfall.context import Context, Partition
from enrich_pipeline.waterfall.decide import relevant

LEASE_SECONDS = 300.0
"""How long a reserved call may wait for its turn to be sent."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A reserved call, ready to be armed and sent."""

    call_id: int
    provider: str
    products: frozenset[str]
    persons: int
    request: HttpRequest
    body: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """One person's part of a call of one group."""

    item: Item
    offers: tuple[tuple[Offer, tuple[int, ...]], ...]
    identity: frozenset[str]


def hold_of(ctx: Context, provider: str, tariff: Tariff, product: str) -> tuple[int, int]:
    """(micro-credits, micro-USD) held for one product: the dearer of its price and its cap."""
    price = micro(tariff.prices[product])
    amount = max(price, ctx.providers[provider].cap_micro(product) or 0)
    return amount, usd_micro(amount, micro(tariff.usd_per_credit))


def need_of(ctx: Context, provider: str, day: date, want: Want) -> tuple[int, int]:
    """(micro-credits, micro-USD) held for one person's part of a call."""
    tariff = ctx.terms(provider).tariff(day)
    holds = [hold_of(ctx, provider, tariff, offer.product) for offer, _ in want.offers]
    return sum(h[0] for h in holds), sum(h[1] for h in holds)


def open_budgets(
    conn: Connection, ctx: Context, provider: str, day: date
) -> tuple[ledger.Room, ledger.Room]:
    """Opens and locks what holds of this day go against: the night's room in micro-USD, the
    provider's in micro-credits.
    """
    own = ctx.terms(provider).budget_credits
    return ledger.open_budgets(
        conn,
        provider,
        day,
        micro(ctx.policy.budget.night_usd),
        None if own is None else micro(own),
    )


def reserve(
    conn: Connection,
    ctx: Context,
    partition: Partition,
    provider: str,
    day: date,
    drafts: Sequence[tuple[str, Sequence[Want]]],
) -> list[Claimed]:
    """Writes the intent and the holds of these calls. Budgets of `day` must be open, with room."""
    if not drafts:
        return []
    api = ctx.providers[provider]
    tariff = ctx.terms(provider).tariff(day)
    rate = micro(tariff.usd_per_credit)
    prices = {product: micro(price) for product, price in tariff.prices.items()}
    rows: list[reservations.Draft] = []
    claimed: list[Claimed] = []
    for call_id, (group, members) in zip(
        reservations.new_ids(conn, len(drafts)), drafts, strict=True
    ):
        uses_webhook = any(offer.needs_webhook for want in members for offer, _ in want.offers)
        wire = Call(
            group=group,
            items=tuple(want.item for want in members),
            webhook_url=ctx.webhook_url(provider, call_id) if uses_webhook else None,
            reference=str(call_id),
        )
        request = api.request(wire)
        body = encode(request)
        rows.append(
            reservations.Draft(
                call_id=call_id,
                provider=provider,
                group=group,
                day=partition.day,
                batch=partition.batch,
                run_id=ctx.run_id,
                prices=prices,
                usd_micro_per_credit=rate,
                items=tuple(_draft_item(ctx, provider, tariff, want) for want in members),
                request_body=body,
                request_sha256=request_digest(request, body),
                token_hash=hashlib.sha256(ctx.token(call_id).encode()).digest()
                if uses_webhook
                else None,
            )
        )
        products = frozenset(p for item in wire.items for p in item.products)
        claimed.append(Claimed(call_id, provider, products, len(members), request, body))
    reservations.insert_reserved(conn, rows, day, LEASE_SECONDS)
    ledger.post(
        conn,
        provider,
        [
            ledger.CallEntries(
                call_id=row.call_id,
                settlement="claim",
                provider=provider,
                spend_date=day,
                partition_date=row.day,
                batch=row.batch,
                entries=(Entry(EntryType.HOLD, row.hold_micro, row.hold_usd_micro),),
            )
            for row in rows
            if row.hold_micro
        ],
    )
    holds: dict[int, int] = {}
    for row in rows:
        for item in row.items:
            person = item.item.person.person_id
            amount = sum(line.hold_usd_micro for line in item.lines)
            holds[person] = holds.get(person, 0) + amount
    ledger.hold_for_persons(conn, holds)
    return claimed


def _draft_item(ctx: Context, provider: str, tariff: Tariff, want: Want) -> reservations.DraftItem:
    lines = []
    for offer, asked in want.offers:
        amount, dollars = hold_of(ctx, provider, tariff, offer.product)
        lines.append(
            reservations.DraftLine(
                product=offer.product,
                options=offer.options,
                fields=tuple(f.value for f in offer.fields),
                hold_micro=amount,
                hold_usd_micro=dollars,
                sent_identity=tuple(sorted(relevant(want.identity, offer))),
                enrichment_ids=asked,
            )
        )
    return reservations.DraftItem(want.item, tuple(lines))


def request_digest(request: HttpRequest, body: bytes) -> bytes:
    """Identifies a request to the byte: a free re-read must be the same request."""
    head = json.dumps([request.method, request.path, sorted(request.params.items())])
    return hashlib.sha256(head.encode() + b"\n" + body).digest()


def halves(
    conn: Connection, ctx: Context, partition: Partition, provider: str, stored: calls.StoredCall
) -> list[Claimed]:
    """Reserves the two halves of a call that was refused because of one bad record.

    The call's lines must be released and its enrichments open again. Halves respect the provider's
    minimum; a provider without a single endpoint gets uneven halves or none.
    """
    bounds = ctx.providers[provider].limits
    persons = [item.person.person_id for item in stored.items]
    known = work.known_persons(conn, persons)
    # Without whom was blocked, or erased, since: of the latter nothing is left to ask with. Whoever
    # was merged into another person meanwhile is asked for as that one.
    items = [
        item
        for item in stored.items
        if (who := known.get(item.person.person_id)) is not None and not who.is_blocked
    ]
    middle = len(items) // 2
    smallest = 1 if bounds.single else bounds.minimum
    if middle < smallest:
        return []
    asked: dict[tuple[int, Field], int] = {
        (f.person_id, f.field): f.enrichment_id
        for f in work.open_fields(conn, provider, tuple(Field), persons)
    }
    wants: list[Want] = []
    for item in items:
        who = known[item.person.person_id]
        offers = [
            o
            for o in ctx.offers(provider, consented=item.person.personal_email_consent)
            if o.product in item.products
        ]
        taken: set[int] = set()
        parts: list[tuple[Offer, tuple[int, ...]]] = []
        for offer in offers:
            mine = tuple(
                e
                for f in offer.fields
                if (e := asked.get((item.person.person_id, f))) is not None and e not in taken
            )
            taken.update(mine)
            parts.append((offer, mine))
        wants.append(Want(item, tuple(parts), who.identity))
    day = reservations.today(conn)
    night, own = open_budgets(conn, ctx, provider, day)
    need_micro, need_usd = map(
        sum, zip(*(need_of(ctx, provider, day, w) for w in wants), strict=True)
    )
    if need_micro > own.free or need_usd > night.free:
        # The fields are open again: whoever claims them when there is room meets the record anew.
        return []
    drafts = [(stored.group, wants[:middle]), (stored.group, wants[middle:])]
    return reserve(conn, ctx, partition, provider, day, drafts)
