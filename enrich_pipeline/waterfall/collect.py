"""Collecting: what providers answer after they accepted a call, by poll or by webhook."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from sqlalchemy import Connection

from enrich_pipeline.providers.http import ExchangeError
from enrich_pipeline.providers.protocol import Answer, Disposition, HttpRequest, HttpResponse, Reply
from enrich_pipeline.store import answers, calls, inbox, replies
from enrich_pipeline.waterfall.booking import POLL
from enrich_pipeline.waterfall.context import Context, Partition
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.send import store
from enrich_pipeline.waterfall.settle import Settled, settle
from enrich_pipeline.waterfall.turns import await_turn
from enrich_pipeline.waterfall.unanswered import doubt

POLL_DEADLINE_SECONDS = 60.0
_SLOWEST_POLL_SECONDS = 300.0


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
    settled = []
    for call_id, name in news:
        if name in ctx.providers:
            with ctx.engine.begin() as conn:
                settled.append(_apply_deliveries(conn, ctx, call_id))
                reached("delivery_settling")
            reached("delivery_settled")
    return settled


def _apply_deliveries(conn: Connection, ctx: Context, call_id: int) -> Settled:
    stored = calls.with_known_ids(conn, calls.load(conn, call_id, lock=True))
    api = ctx.providers[stored.provider]
    states: dict[int, tuple[str, str | None]] = {}
    new: dict[tuple[str, str], Answer] = {}
    cost: int | None = None
    anomalies: list[str] = []
    is_final = False
    pending = inbox.news_of(conn, call_id)
    if not pending:
        return Settled()
    lines = calls.lines_of(conn, call_id)
    asked = stored
    if not asked.items:
        items = tuple(answers.items_now(conn, lines))
        asked = calls.with_known_ids(conn, replace(stored, items=items))
    wire = ctx.wire_call(asked)
    still_open = {
        (x.item_key, x.product)
        for x in lines
        if x.state.value in ("held", "in_doubt", "written_off")
    }
    for delivery in pending:
        reply = api.read_delivery(wire, delivery.body)
        anomalies.extend(reply.anomalies)
        if reply.disposition not in (Disposition.ANSWERED, Disposition.ACCEPTED):
            states[delivery.delivery_id] = ("quarantined", reply.reason or "not_understood")
            continue
        fresh = {
            (a.key, a.product): a
            for a in reply.answers
            if (a.key, a.product) in still_open and (a.key, a.product) not in new
        }
        if fresh:
            new.update(fresh)
            cost = cost if reply.cost_micro is None else (cost or 0) + reply.cost_micro
            is_final = is_final or reply.disposition is Disposition.ANSWERED
            states[delivery.delivery_id] = ("applied", None)
        elif not reply.answers:
            # A reply that is still out may say by which ids the provider speaks of whom.
            if stored.state not in ("sending", "responded", "in_doubt"):
                states[delivery.delivery_id] = ("quarantined", "no_line_of_this_call")
        else:
            states[delivery.delivery_id] = _repetition(conn, lines, reply, new)
    if not new:
        answers.write_anomalies(conn, stored.provider, call_id, anomalies)
        inbox.mark(conn, states)
        return Settled()
    combined = Reply(
        Disposition.ACCEPTED,
        answers=tuple(new.values()),
        cost_micro=cost,
        anomalies=tuple(anomalies),
    )
    newest = max(d.delivery_id for d in pending)
    settled = settle(conn, ctx, stored, combined, f"delivery:{newest}")
    # Last: until the commit these rows are locked, and the receiver may want to count one again.
    inbox.mark(conn, states)
    return settled


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


def polls(
    ctx: Context, *, provider: str | None = None, partition: Partition | None = None
) -> list[Settled]:
    """Asks for the results of accepted calls whose next poll is due."""
    with ctx.engine.connect() as conn:
        due = calls.due(
            conn,
            "accepted",
            provider=provider,
            clock="next_poll_at",
            day=partition.day if partition else None,
            batch=partition.batch if partition else None,
        )
    return [settled for call_id in due if (settled := poll(ctx, call_id)) is not None]


def poll(ctx: Context, call_id: int) -> Settled | None:
    """One free conversation about one accepted call; None when it brought nothing."""
    with ctx.engine.connect() as conn:
        stored = calls.with_known_ids(conn, calls.load(conn, call_id, lock=False))
    if stored.provider not in ctx.providers or stored.state != "accepted":
        return None
    api = ctx.providers[stored.provider]
    conversation = api.poll(ctx.wire_call(stored))
    responses: list[HttpResponse] = []
    reply = Reply(Disposition.NOT_READY)
    if conversation is not None:
        try:
            asked = next(conversation)
            while True:
                heard = _exchange(ctx, stored.provider, asked)
                responses.extend(heard)
                asked = conversation.send(heard)
        except StopIteration as end:
            reply = end.value
        except ExchangeError:
            reply = Reply(Disposition.NOT_READY, reason="poll_failed")
    settlement = f"{POLL}{stored.polls}"
    has_news = any(a.verdict.value != "pending" for a in reply.answers)
    reached("polled")
    if has_news:
        store(ctx, call_id, settlement, responses)
        reached("poll_stored")
    with ctx.engine.begin() as conn:
        current = calls.with_known_ids(conn, calls.load(conn, call_id, lock=True))
        if current.state != "accepted" or current.polls != stored.polls:
            return None
        pause = min(
            ctx.terms(stored.provider).poll_seconds * 1.3**stored.polls, _SLOWEST_POLL_SECONDS
        )
        calls.postpone_poll(conn, call_id, max(pause, reply.retry_after or 0.0))
        if has_news:
            # What is still pending stays held, whatever the reply calls itself.
            settled = settle(
                conn, ctx, current, replace(reply, disposition=Disposition.ACCEPTED), settlement
            )
            replies.mark_read(conn, call_id, settlement, reply.anomalies)
            reached("poll_settling")
            return settled
        if reply.disposition is Disposition.IN_DOUBT:
            settled = Settled()
            reason = reply.reason or "result_is_gone"
            settled.in_doubt += doubt(conn, ctx, current, settlement, reason)
            return settled
    return None


def _exchange(ctx: Context, provider: str, requests: Sequence[HttpRequest]) -> list[HttpResponse]:
    client = ctx.clients[provider]

    def ask(request: HttpRequest) -> HttpResponse:
        await_turn(ctx, provider, 1, ctx.stopping.wait)
        return client.send(request, deadline_seconds=POLL_DEADLINE_SECONDS)

    if len(requests) == 1:
        return [ask(requests[0])]
    with ThreadPoolExecutor(ctx.terms(provider).concurrency) as pool:
        return list(pool.map(ask, requests))
