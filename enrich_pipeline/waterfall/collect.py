"""Collecting: what providers answer after they accepted a call, by poll or by webhook."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event

from sqlalchemy import Connection

from enrich_pipeline.providers.http import ExchangeError, NeverSent
from enrich_pipeline.providers.protocol import Answer, Disposition, HttpRequest, HttpResponse, Reply
from enrich_pipeline.store import answers, calls, inbox, replies
from enrich_pipeline.waterfall.booking import POLL
from enrich_pipeline.waterfall.context import Context, Partition
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.send import store
from enrich_pipeline.waterfall.settle import Settled, Settlement, settle_together
from enrich_pipeline.waterfall.turns import await_turn
from enrich_pipeline.waterfall.unanswered import doubt

POLL_DEADLINE_SECONDS = 60.0
_SLOWEST_POLL_SECONDS = 300.0
_CONVERSATIONS = 8
"""How many calls are asked about at a time, where the provider's concurrency allows as many."""
_TOGETHER = 16
"""How many calls are settled in one transaction: what is left to save by more is little."""


def deliveries(
    ctx: Context, *, provider: str | None = None, partition: Partition | None = None
) -> list[Settled]:
    """Applies every new delivery that belongs to a call, all of one call together."""
    with ctx.engine.connect() as conn:
        news = inbox.calls_with_news(
            conn,
            provider=provider,
            day=partition.day if partition else None,
            batch=partition.batch if partition else None,
        )
    settled: list[Settled] = []
    for name in sorted({name for _, name in news} & set(ctx.providers)):
        left = [call_id for call_id, its in news if its == name]
        while left:
            now, left = left[:_TOGETHER], left[_TOGETHER:]
            with ctx.engine.begin() as conn:
                applied = _apply_deliveries(conn, ctx, name, now)
                reached("delivery_settling")
            reached("delivery_settled")
            settled += applied.values()
            left = [call_id for call_id in now if call_id not in applied] + left
    return settled


@dataclass(frozen=True, slots=True)
class _News:
    """What the new deliveries of a call say together, and what becomes of each of them."""

    stored: calls.StoredCall
    states: Mapping[int, tuple[str, str | None]]
    anomalies: Sequence[str]
    reply: Reply | None
    newest: int
    """Of the deliveries that are applied: no settlement was named after it before."""


def _apply_deliveries(
    conn: Connection, ctx: Context, provider: str, call_ids: Sequence[int]
) -> dict[int, Settled]:
    """What was settled by call; of those in which somebody is twice, the first alone."""
    stored = calls.with_known_ids(conn, calls.load_all(conn, call_ids, lock=True))
    pending: dict[int, list[inbox.Delivery]] = {}
    for delivery in inbox.news_of(conn, call_ids):
        pending.setdefault(delivery.call_id, []).append(delivery)
    lines: dict[int, list[calls.StoredLine]] = {}
    for line in calls.lines_of(conn, list(pending)):
        lines.setdefault(line.call_id, []).append(line)
    news = [
        _news_of(conn, ctx, each, pending[each.call_id], lines.get(each.call_id, []))
        for each in stored
        if each.call_id in pending
    ]
    settled = settle_together(
        conn,
        ctx,
        provider,
        [Settlement(n.stored, n.reply, f"delivery:{n.newest}") for n in news if n.reply],
    )
    told = {n.stored.call_id for n in news if n.reply}
    for each in news:
        if each.reply is None:
            answers.write_anomalies(conn, provider, each.stored.call_id, each.anomalies)
    # Last: until the commit these rows are locked, and the receiver may want to count one again.
    inbox.mark(
        conn,
        {
            delivery_id: state
            for n in news
            if n.reply is None or n.stored.call_id in settled
            for delivery_id, state in n.states.items()
        },
    )
    return settled | {call_id: Settled() for call_id in call_ids if call_id not in told}


def _news_of(
    conn: Connection,
    ctx: Context,
    stored: calls.StoredCall,
    pending: Sequence[inbox.Delivery],
    lines: Sequence[calls.StoredLine],
) -> _News:
    api = ctx.providers[stored.provider]
    states: dict[int, tuple[str, str | None]] = {}
    new: dict[tuple[str, str], Answer] = {}
    cost: int | None = None
    anomalies: list[str] = []
    asked = stored
    if not asked.items:
        items = tuple(answers.items_now(conn, lines))
        (asked,) = calls.with_known_ids(conn, [replace(stored, items=items)])
    wire = ctx.wire_call(asked)
    still_open = {
        (x.item_key, x.product)
        for x in lines
        if x.state.value in ("held", "in_doubt", "written_off")
    }
    applied = 0
    for delivery in pending:
        reply = api.read_delivery(wire, delivery.body)
        if reply.disposition not in (Disposition.ANSWERED, Disposition.ACCEPTED):
            anomalies.extend(reply.anomalies)
            states[delivery.delivery_id] = ("quarantined", reply.reason or "not_understood")
            continue
        is_partly_known = any(a.startswith("unknown_identifier") for a in reply.anomalies)
        may_learn_ids = stored.state in ("sending", "responded", "in_doubt")
        if may_learn_ids and (is_partly_known or not reply.answers):
            # A reply that is still out may say by which ids the provider speaks of whom.
            continue
        anomalies.extend(reply.anomalies)
        fresh = {
            (a.key, a.product): a
            for a in reply.answers
            if (a.key, a.product) in still_open and (a.key, a.product) not in new
        }
        if fresh:
            new.update(fresh)
            # A figure that is others' as well says nothing of these: then the tariff does.
            figure = None if is_partly_known and stored.state == "written_off" else reply.cost_micro
            cost = cost if figure is None else (cost or 0) + figure
            states[delivery.delivery_id] = ("applied", None)
            applied = max(applied, delivery.delivery_id)
        elif not reply.answers:
            states[delivery.delivery_id] = ("quarantined", "no_line_of_this_call")
        else:
            states[delivery.delivery_id] = _repetition(conn, lines, reply, new)
    combined = Reply(
        Disposition.ACCEPTED,
        answers=tuple(new.values()),
        cost_micro=cost,
        anomalies=tuple(anomalies),
    )
    return _News(stored, states, anomalies, combined if new else None, applied)


def _repetition(
    conn: Connection,
    lines: Sequence[calls.StoredLine],
    reply: Reply,
    new: dict[tuple[str, str], Answer],
) -> tuple[str, str | None]:
    """A second answer for a settled line: without effect when equal, set aside when different."""
    line_of = {(x.item_key, x.product): x.line_id for x in lines}
    said = {
        (line_of[(a.key, a.product)], v.attribute.value, v.value)
        for a in reply.answers
        if (a.key, a.product) in line_of
        for v in a.values
    }
    known = answers.values_of_lines(conn, list(line_of.values())) | {
        (line_of[place], v.attribute.value, v.value) for place, a in new.items() for v in a.values
    }
    return ("ignored", "repeated") if said <= known else ("quarantined", "differs_from_first")


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a poll of an accepted call brought."""

    stored: calls.StoredCall
    reply: Reply
    has_news: bool

    @property
    def settlement(self) -> str:
        return f"{POLL}{self.stored.polls}"


def polls(
    ctx: Context,
    *,
    provider: str | None = None,
    partition: Partition | None = None,
    over: Event | None = None,
) -> list[Settled]:
    """Asks for the results of accepted calls whose next poll is due; not when that is over."""
    with ctx.engine.connect() as conn:
        due = calls.due(
            conn,
            "accepted",
            provider=provider,
            clock="next_poll_at",
            day=partition.day if partition else None,
            batch=partition.batch if partition else None,
        )
    settled: list[Settled] = []
    while due and not (ctx.stopping.is_set() or (over is not None and over.is_set())):
        now, due = due[:_TOGETHER], due[_TOGETHER:]
        settled += poll(ctx, now, over)
    return settled


def poll(ctx: Context, call_ids: Sequence[int], over: Event | None = None) -> list[Settled]:
    """One free conversation about each of these accepted calls; what those settled that told.

    None begins when it is over: waiting for their turns takes longer than the conversations.
    """
    with ctx.engine.connect() as conn:
        stored = calls.with_known_ids(conn, calls.load_all(conn, call_ids, lock=False))
        lines: dict[int, list[calls.StoredLine]] = {}
        for line in calls.lines_of(conn, call_ids):
            lines.setdefault(line.call_id, []).append(line)
    # Of a provider that was turned off there may be no key any more.
    waiting = [c for c in stored if c.state == "accepted" and c.provider in ctx.clients]
    at_once = min([_CONVERSATIONS, *(ctx.terms(c.provider).concurrency for c in waiting)])
    with ThreadPoolExecutor(at_once) as pool:
        asked = pool.map(
            lambda call: (
                None
                if over is not None and over.is_set()
                else _ask(ctx, call, calls.awaited(lines.get(call.call_id, ())))
            ),
            waiting,
        )
        heard = [each for each in asked if each is not None]
    settled: list[Settled] = []
    for name in sorted({each.stored.provider for each in heard}):
        left = {e.stored.call_id: e for e in heard if e.has_news and e.stored.provider == name}
        while left:
            with ctx.engine.begin() as conn:
                done = _settle_polls(conn, ctx, name, left)
                reached("poll_settling")
            settled += [outcome for outcome in done.values() if outcome is not None]
            left = {call_id: each for call_id, each in left.items() if call_id not in done}
    for each in heard:
        if not each.has_news:
            settled += _note_silence(ctx, each)
    return settled


def _ask(ctx: Context, stored: calls.StoredCall, awaited: frozenset[str]) -> _Heard:
    api = ctx.providers[stored.provider]
    conversation = api.poll(ctx.wire_call(stored, awaited))
    responses: list[HttpResponse] = []
    reply = Reply(Disposition.NOT_READY)
    if conversation is not None:
        try:
            asked = next(conversation)
            while True:
                answer = _exchange(ctx, stored.provider, asked)
                responses.extend(answer)
                asked = conversation.send(answer)
        except StopIteration as end:
            reply = end.value
        except ExchangeError:
            reply = Reply(Disposition.NOT_READY, reason="poll_failed")
    has_news = any(a.verdict.value != "pending" and a.key in awaited for a in reply.answers)
    heard = _Heard(stored, reply, has_news)
    reached("polled")
    if heard.has_news:
        store(ctx, stored.call_id, heard.settlement, responses)
        reached("poll_stored")
    return heard


def _settle_polls(
    conn: Connection, ctx: Context, provider: str, heard: Mapping[int, _Heard]
) -> dict[int, Settled | None]:
    """What was settled by call: None where somebody else was faster."""
    current = calls.with_known_ids(conn, calls.load_all(conn, list(heard), lock=True))
    waiting = [c for c in current if _is_waiting(c, heard[c.call_id])]
    settled = settle_together(
        conn,
        ctx,
        provider,
        [
            # What is still pending stays held, whatever the reply calls itself.
            Settlement(
                c,
                replace(heard[c.call_id].reply, disposition=Disposition.ACCEPTED),
                heard[c.call_id].settlement,
            )
            for c in waiting
        ],
    )
    calls.count_polls(conn, list(settled))
    mine = [heard[call_id] for call_id in settled]
    replies.mark_read(conn, {(e.stored.call_id, e.settlement): e.reply.anomalies for e in mine})
    faster = heard.keys() - {c.call_id for c in waiting}
    return {**settled, **dict.fromkeys(faster)}


def _note_silence(ctx: Context, heard: _Heard) -> list[Settled]:
    """A poll without news: asked again later, unless there is nothing to wait for any more."""
    with ctx.engine.begin() as conn:
        (current,) = calls.with_known_ids(
            conn, calls.load_all(conn, [heard.stored.call_id], lock=True)
        )
        if not _is_waiting(current, heard):
            return []
        terms = ctx.terms(current.provider)
        pause = min(terms.poll_seconds * 1.3**current.polls, _SLOWEST_POLL_SECONDS)
        calls.postpone_poll(conn, current.call_id, max(pause, heard.reply.retry_after or 0.0))
        if heard.reply.disposition is not Disposition.IN_DOUBT:
            return []
        settled = Settled()
        reason = heard.reply.reason or "result_is_gone"
        settled.in_doubt += doubt(conn, ctx, current, heard.settlement, reason)
        return [settled]


def _is_waiting(current: calls.StoredCall, heard: _Heard) -> bool:
    return current.state == "accepted" and current.polls == heard.stored.polls


def _exchange(ctx: Context, provider: str, requests: Sequence[HttpRequest]) -> list[HttpResponse]:
    client = ctx.clients[provider]

    def ask(request: HttpRequest) -> HttpResponse:
        turn = await_turn(ctx, provider, 1, ctx.stopping.wait)
        if ctx.stopping.is_set():
            raise NeverSent("stopping")
        response = client.send(request, deadline_seconds=POLL_DEADLINE_SECONDS, on_sent=turn.sent)
        turn.correct(ctx, provider)
        return response

    if len(requests) == 1:
        return [ask(requests[0])]
    with ThreadPoolExecutor(ctx.terms(provider).concurrency) as pool:
        return list(pool.map(ask, requests))
