"""Sending: the only place where a billable request leaves.

arm (committed) -> send, outside any transaction -> store the reply (committed) -> settle, with
other calls whose replies have come. What happens to the process in between is answered by the state
that was committed last.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from enrich_pipeline.providers.http import NeverSent, ReplyLost, encode
from enrich_pipeline.providers.protocol import Disposition, HttpResponse, Poll, Reply
from enrich_pipeline.store import breakers, calls, rate_limits, replies, switch
from enrich_pipeline.waterfall.booking import POLL, REREAD
from enrich_pipeline.waterfall.context import Context, Partition
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.pauses import FAILURES_TO_OPEN, PAUSE_SECONDS
from enrich_pipeline.waterfall.reserve import Claimed, halves, request_digest
from enrich_pipeline.waterfall.settle import Settled, Settlement, settle, settle_together
from enrich_pipeline.waterfall.turns import Turn, await_turn, uncounted
from enrich_pipeline.waterfall.unanswered import doubt, release

GRACE_SECONDS = 60.0
"""Beyond the deadline of an exchange: after it, a sending call has no process any more."""


PROBE_SECONDS = 60.0
"""While one call finds out whether a provider works again, the others hold back this long."""
STOPPED = "stopped"
"""Why a call was given back whose run was asked to stop."""
PATIENCE_SECONDS = 120.0
"""How long what a provider answered is kept in memory while the database cannot be reached."""
_RECONNECT_SECONDS = 0.2

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one call: its settlement, and calls that take its place.

    `answered`: the call whose reply is kept, and not yet settled.
    """

    settled: Settled | None
    stopped_reason: str | None = None
    successors: tuple[Claimed, ...] = ()
    answered: int | None = None

    @property
    def is_throttled(self) -> bool:
        return self.settled is not None and self.settled.disposition is Disposition.THROTTLED


def send(ctx: Context, claimed: Claimed, turn: Turn | None = None) -> Sent:
    """Takes one reserved call, whose turn it is, up to the reply that is kept."""
    terms, turn = ctx.terms(claimed.provider), turn or uncounted()
    deadline = terms.connect_timeout_seconds + terms.timeout_seconds
    refused: str | None = None
    started = time.monotonic()
    with ctx.engine.begin() as conn:
        if ctx.stopping.is_set():
            refused = STOPPED
        elif not switch.may_send(conn):
            refused = switch.REASON
        elif not breakers.may_pass(conn, claimed.provider, claimed.products, PROBE_SECONDS):
            refused = "breaker_open"
        elif not calls.arm(conn, claimed.call_id, deadline + GRACE_SECONDS):
            refused = "lease_over"
        reached("arming")
    if refused is not None:
        # On its own: a settlement elsewhere locks the ledger first, and breakers last.
        return Sent(None, give_back(ctx, claimed, refused))
    reached("armed")
    turn.freshen(ctx, claimed.provider)
    try:
        left = deadline - (time.monotonic() - started)
        if left <= 0:
            # The process slept: by now others may have taken the call for lost.
            raise NeverSent("too_late")
        response = ctx.clients[claimed.provider].send(
            claimed.request, body=claimed.body, deadline_seconds=left, on_sent=turn.sent
        )
    except NeverSent as error:
        reached("unsent")
        code = str(error)

        def unsent(conn: Connection) -> None:
            stored = calls.load(conn, claimed.call_id, lock=True)
            # Asked again meanwhile, a call in doubt is in doubt because of that.
            if stored.state == "sending" or (stored.state == "in_doubt" and stored.sends == 1):
                release(conn, stored, "unsent", code)
            _count_failure(conn, claimed.provider, "never_sent")

        _surely(ctx, unsent)
        return Sent(None, "never_sent")
    except ReplyLost as error:
        reached("lost")
        code = str(error)

        def lost(conn: Connection) -> Settled:
            stored, outcome = calls.load(conn, claimed.call_id, lock=True), Settled()
            if stored.state == "sending":
                outcome.in_doubt += doubt(conn, ctx, stored, "lost", code)
            _count_failure(conn, claimed.provider, "reply_lost")
            return outcome

        return Sent(_surely(ctx, lost), None)
    reached("answered")
    store(ctx, claimed.call_id, "submit", [response])
    reached("stored")
    turn.correct(ctx, claimed.provider)
    note_quotas(ctx, claimed.provider, response)
    return Sent(None, answered=claimed.call_id)


def note_quotas(ctx: Context, provider: str, response: HttpResponse) -> None:
    """Slows down to what the provider's headers say is left."""
    quotas = ctx.providers[provider].quotas(response)
    if quotas:
        with ctx.engine.begin() as conn:
            rate_limits.note_quotas(conn, provider, ctx.terms(provider).rate, quotas)


def give_back(ctx: Context, claimed: Claimed, reason: str) -> str:
    """The call will not be sent; somebody in it who withdrew is the more telling reason."""
    with ctx.engine.begin() as conn:
        stored = calls.load(conn, claimed.call_id, lock=True)
        if stored.state != "reserved":
            return "taken_over"
        if calls.withdrawn(conn, claimed.call_id):
            reason = "withdrawn"
        release(conn, stored, "disarm", reason)
        return reason


def store(ctx: Context, call_id: int, settlement: str, responses: list[HttpResponse]) -> None:
    """Keeps responses verbatim before anybody reads them."""
    digest = hashlib.sha256(b"".join(r.body for r in responses)).digest()
    encoded = replies.encode([(r.status, r.headers, r.body, r.truncated) for r in responses])
    _surely(ctx, lambda conn: replies.store(conn, call_id, settlement, encoded, digest))


def _surely(ctx: Context, step: Callable[[Connection], _Result]) -> _Result:
    """Takes a step that only this process knows of, even if the database is away for a while.

    A commit whose acknowledgement was lost is repeated: `step` must change nothing the second time.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with ctx.engine.begin() as conn:
                return step(conn)
        except (OperationalError, InterfaceError):
            if time.monotonic() > until:
                raise
        time.sleep(_RECONNECT_SECONDS)


def _count_failure(conn: Connection, provider: str, reason: str) -> None:
    breakers.count_failure(
        conn, provider, reason, threshold=FAILURES_TO_OPEN, pause_seconds=PAUSE_SECONDS
    )


def settle_answered(ctx: Context, partition: Partition, call_ids: Sequence[int]) -> Iterator[Sent]:
    """Applies the kept replies of calls to one provider: all answers at once, the rest singly."""
    left = list(call_ids)
    while len(left) > 1:
        with ctx.engine.begin() as conn:
            settled = _settle_answers(conn, ctx, left)
            reached("settling")
        reached("settled")
        if not settled:
            break
        yield from (Sent(each) for each in settled.values())
        left = [call_id for call_id in left if call_id not in settled]
    for call_id in left:
        yield settle_stored(ctx, partition, call_id)


def _settle_answers(conn: Connection, ctx: Context, call_ids: Sequence[int]) -> dict[int, Settled]:
    """Settles those of the calls that their first reply answers."""
    waiting = {s.call_id: s for s in calls.load_all(conn, call_ids, lock=True)}
    answered: list[Settlement] = []
    for kept in replies.unread(conn, call_ids):
        stored = waiting[kept.call_id]
        if stored.state == "responded" and kept.settlement == "submit":
            reply = _read(conn, ctx, stored, kept)
            if reply.disposition in (Disposition.ANSWERED, Disposition.ACCEPTED):
                answered.append(Settlement(stored, reply, kept.settlement))
    if not answered:
        return {}
    settled = settle_together(conn, ctx, answered[0].stored.provider, answered)
    replies.mark_read(
        conn,
        {
            (each.stored.call_id, each.name): each.reply.anomalies
            for each in answered
            if each.stored.call_id in settled
        },
    )
    return settled


def settle_stored(ctx: Context, partition: Partition | None, call_id: int) -> Sent:
    """Applies the kept replies of a call that were not applied yet.

    Without `partition` nothing takes the place of a call that is refused for one of its records:
    for whoever cannot send what does. Its fields are open again then, for the next claim.
    """
    outcome: Settled | None = None
    successors: tuple[Claimed, ...] = ()
    with ctx.engine.begin() as conn:
        stored = calls.load(conn, call_id, lock=True)
        for kept in replies.unread(conn, [call_id]):
            reply = _read(conn, ctx, stored, kept)
            outcome = settle(conn, ctx, stored, reply, kept.settlement)
            replies.mark_read(conn, {(call_id, kept.settlement): reply.anomalies})
            if kept.settlement.startswith(POLL):
                # The next poll gets a name of its own, and is booked.
                calls.count_polls(conn, [call_id])
            if outcome.bisect and partition is not None:
                successors = tuple(halves(conn, ctx, partition, stored.provider, stored))
            stored = calls.load(conn, call_id, lock=True)
        reached("settling")
    reached("settled")
    return Sent(outcome, None, successors)


def _read(
    conn: Connection, ctx: Context, stored: calls.StoredCall, kept: replies.StoredReply
) -> Reply:
    api = ctx.providers[stored.provider]
    responses = [
        HttpResponse(r["status"], r["headers"], bytes.fromhex(r["body"]), r["truncated"])
        for r in kept.responses
    ]
    if not kept.settlement.startswith(POLL):
        return api.read(ctx.wire_call(stored), responses[0])
    (asked,) = calls.with_known_ids(conn, [stored])
    awaited = calls.awaited(calls.lines_of(conn, [stored.call_id]))
    reply = _replay(api.poll(ctx.wire_call(asked, awaited)), responses)
    # What is still pending stays held, whatever the reply calls itself.
    return replace(reply, disposition=Disposition.ACCEPTED)


def _replay(conversation: Poll | None, responses: Sequence[HttpResponse]) -> Reply:
    """What a kept poll said; one that cannot be followed any more said nothing."""
    if conversation is None:
        return Reply(Disposition.NOT_READY)
    try:
        asked, heard = next(conversation), 0
        while heard + len(asked) <= len(responses):
            answered = responses[heard : heard + len(asked)]
            heard += len(asked)
            asked = conversation.send(answered)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
    return Reply(Disposition.NOT_READY)


def read_again(ctx: Context, call_id: int, sleep: Callable[[float], object]) -> Sent:
    """Sends a call in doubt again, byte for byte, where its provider does not charge for that."""
    with ctx.engine.connect() as conn:
        stored = calls.load(conn, call_id, lock=False)
    terms = ctx.terms(stored.provider)
    request = ctx.providers[stored.provider].request(ctx.wire_call(stored))
    body = encode(request)
    if request_digest(request, body) != stored.request_sha256:
        return Sent(None, "request_changed")
    turn = await_turn(ctx, stored.provider, len(stored.items), sleep)
    deadline = terms.connect_timeout_seconds + terms.timeout_seconds
    started = time.monotonic()
    with ctx.engine.begin() as conn:
        # The first request may never have arrived: then this one is charged, so it is a send.
        if ctx.stopping.is_set() or not switch.may_send(conn):
            return Sent(None, "not_now")
        sends = calls.arm_again(conn, call_id, deadline + GRACE_SECONDS)
        if sends is None:
            return Sent(None, "not_due")
    reached("armed_again")
    turn.freshen(ctx, stored.provider)
    try:
        left = deadline - (time.monotonic() - started)
        if left <= 0:
            # The process slept: by now the call may be settled, or somebody in it erased.
            raise NeverSent("too_late")
        response = ctx.clients[stored.provider].send(
            request, body=body, deadline_seconds=left, on_sent=turn.sent
        )
    except (NeverSent, ReplyLost):
        return Sent(None, "still_in_doubt")
    reached("answered_again")
    store(ctx, call_id, f"{REREAD}{sends - 1}", [response])
    turn.correct(ctx, stored.provider)
    return settle_stored(ctx, None, call_id)
