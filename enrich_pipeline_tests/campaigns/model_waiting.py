"""Steps of the model campaign: time passes, sweeps, repetitions, deliveries, polls."""

import hashlib
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from enrich_pipeline.store import inbox
from enrich_pipeline.waterfall import collect
from enrich_pipeline.waterfall.context import Context
from enrich_pipeline.waterfall.send import read_again
from enrich_pipeline.waterfall.sweep import sweep

from .model_drive import AN_INDEX, AN_OUTCOME, SOME_FATES
from .model_records import Call, Divergence
from .model_said import Delivery, Said
from .model_sending import Sending

CLOCKS = ("lease_until", "deadline_at", "write_off_at")
_AFTER = {
    "sending": "before the reply",
    "responded": "before the reply",
    "in_doubt": "after a doubt",
    "written_off": "after a write-off",
}
"""State of a call -> when its delivery comes."""


class Waiting(Sending):
    """What comes after a call was sent, or instead of its answer."""

    @rule(
        clock=st.sampled_from((None, *CLOCKS)),
        outcome=AN_OUTCOME,
        fates=SOME_FATES,
        polls_fail=st.booleans(),
    )
    def sweep(
        self, clock: str | None, outcome: str, fates: Sequence[str], polls_fail: bool
    ) -> None:
        if clock is not None:
            self._pass_time(clock)
        self._sweep(outcome, fates, polls_fail=polls_fail)

    def _sweep(self, outcome: str, fates: Sequence[str], *, polls_fail: bool = False) -> None:
        """`outcome` and `fates` are of what the sweep asks again."""
        ctx = self._sweeper()
        self._reread, self._polls_fail, self._asked = (outcome, fates), polls_fail, []
        sweep(ctx, self._calm)
        self._expect_sweep(ctx)
        if self._asked:
            raise Divergence(f"asked for nothing: {self._asked}")
        self.agree()

    def _pass_time(self, clock: str, only: Call | None = None) -> None:
        """Whatever this clock of calls, or of one call, waits for has come."""
        self.tables.run(
            f"update enrichment.calls set {clock} = clock_timestamp() - interval '1 second' "  # noqa: S608
            f"where {clock} is not null and state not in ('settled', 'released', 'written_off') "
            "and call_id = coalesce(:only, call_id)",
            only=only and only.call_id,
        )
        for call in self.books.calls.values():
            if call.is_closed or only not in (None, call):
                continue
            if clock == "lease_until":
                call.is_lease_over = True
            elif clock == "deadline_at":
                call.deadline = call.deadline and "over"
            else:
                call.horizon = call.horizon and "over"

    def _expect_sweep(self, ctx: Context) -> None:
        books = self.books
        for call in self._calls("reserved", "sending"):
            is_dead = call.run_id not in (self.run_id, ctx.run_id)
            if call.is_lease_over or is_dead:
                is_sent = call.state == "sending"
                self._count("sweep: in doubt" if is_sent else "sweep: released")
                books.abandoned(call)
        unread = [call for call in books.calls.values() if call.unread]
        self._count("sweep: reply read", len(unread))
        self._read_kept(unread, None)
        self._expect_deliveries()
        silent = [c for c in self._calls("accepted") if c.deadline == "over"]
        hopeless = [c for c in self._calls("in_doubt") if c.horizon == "over"]
        for call in silent:
            self._expect_poll(call)
            if call.state == "accepted":
                self._count("sweep: deadline passed")
                books.doubt(call)
        for call in hopeless:
            self._count("sweep: written off")
            books.write_off(call)
        for provider in ("prospeo", "lance"):
            for call in self._calls("in_doubt"):
                if call.provider == provider and call.is_lease_over:
                    self._expect_reread(call)
                    self._count("sweep: asked again")

    def _expect_reread(self, call: Call) -> None:
        if not self.books.arm_again(call, is_paused=self.choices.is_paused):
            return
        if not self._asked or self._asked[0][:2] != (call.call_id, "reread"):
            raise Divergence(f"call {call.call_id} was not asked again")
        _, _, said = self._asked.pop(0)
        assert said is not None
        is_free = call.provider == "prospeo"
        self._count(f"asked again: {'free' if is_free else 'idempotent'}")
        if said.kind not in ("lost", "unsent"):
            self.books.keep(call, "reread", said)
            self._read_kept([call], None)

    @precondition(lambda self: self._repeatable())
    @rule(which=AN_INDEX, outcome=AN_OUTCOME, fates=SOME_FATES)
    def ask_again(self, which: int, outcome: str, fates: Sequence[str]) -> None:
        """A free re-read, or a post that its provider repeats by itself, as its policy allows."""
        waiting = self._repeatable()
        self._ask_again(waiting[which % len(waiting)], outcome, fates)

    def _ask_again(self, call: Call, outcome: str, fates: Sequence[str]) -> None:
        self._reread, self._asked = (outcome, fates), []
        self._pass_time("lease_until", call)
        read_again(self.ctx, call.call_id, self._calm)
        self._expect_reread(call)
        self.agree()

    # ---- what comes later ------------------------------------------------------------------------

    @precondition(lambda self: self._open_jobs())
    @rule(which=AN_INDEX, fates=SOME_FATES)
    def provider_works(self, which: int, fates: Sequence[str]) -> None:
        jobs = self._open_jobs()
        self.providers.work(jobs[which % len(jobs)], fates)
        self.agree()

    @precondition(lambda self: self.providers.outbox)
    @rule(which=AN_INDEX, is_kept=st.booleans(), is_applied=st.booleans())
    def webhook(self, which: int, is_kept: bool, is_applied: bool) -> None:
        """A delivery arrives; kept by its provider, it will come again."""
        outbox = self.providers.outbox
        delivery = outbox[which % len(outbox)]
        if not is_kept:
            outbox.remove(delivery)
        self._arrive(delivery, delivery.token)
        if is_applied:
            self._apply_deliveries()
        self.agree()

    @precondition(lambda self: "new" in self.delivered.values())
    @rule()
    def apply_deliveries(self) -> None:
        self._apply_deliveries()
        self.agree()

    @precondition(lambda self: self.providers.outbox)
    @rule(which=AN_INDEX)
    def webhook_astray(self, which: int) -> None:
        """A delivery under the token of another call, or of none."""
        outbox = self.providers.outbox
        self._go_astray(outbox[which % len(outbox)], which)

    def _go_astray(self, delivery: Delivery, which: int) -> None:
        others = [
            c
            for c in self.books.calls.values()
            if c.has_token and c.provider == delivery.provider == "pronto"
            and not any(c.place(place) for place in delivery.said.words)
        ]  # fmt: skip
        token = self.ctx.token(others[which % len(others)].call_id) if others else "0" * 64
        self._count("webhook of another call" if others else "webhook of nobody")
        body = delivery.body + b" " * (1 + len(self.delivered))
        call_id = others[which % len(others)].call_id if others else 0
        stray = Delivery(call_id, delivery.provider, token, body, Said("not_ready"))
        self._arrive(stray, token)
        self.agree()

    def _arrive(self, delivery: Delivery, token: str) -> None:
        arrival = inbox.Arrival(
            delivery.provider, hashlib.sha256(token.encode()).digest(), delivery.body
        )
        with self.tables.engine.begin() as conn:
            repeated = inbox.put_all(conn, [arrival])
            if repeated:
                inbox.count_repetitions(conn, repeated)
        known = {i for i, d in self.deliveries.items() if d == delivery}
        if known:
            self._count("webhook again")
            return
        seen = self.tables.seen()["inbox"] or {}
        (new,) = set(map(int, seen)) - self.deliveries.keys()
        self.deliveries[new] = delivery
        self.delivered[new] = "new" if delivery.call_id else "quarantined"
        if delivery.said.words:
            self._count("webhook")
            state = self.books.calls[delivery.call_id].state
            if state in _AFTER:
                self._count(f"webhook {_AFTER[state]}")

    def _apply_deliveries(self) -> None:
        collect.deliveries(self.ctx)
        self._expect_deliveries()

    def _expect_deliveries(self) -> None:
        news: dict[int, list[int]] = {}
        for delivery_id, state in sorted(self.delivered.items()):
            if state == "new":
                news.setdefault(self.deliveries[delivery_id].call_id, []).append(delivery_id)
        for call_id, ids in sorted(news.items()):
            said = [self.deliveries[i].said for i in ids]
            states = self.books.deliver(self.books.calls[call_id], said)
            self.delivered |= dict(zip(ids, states, strict=True))

    @precondition(lambda self: self._calls("accepted"))
    @rule(is_failing=st.booleans())
    def poll(self, is_failing: bool) -> None:
        self._poll(is_failing=is_failing)

    def _poll(self, *, is_failing: bool) -> None:
        self.tables.run(
            "update enrichment.calls set next_poll_at = clock_timestamp() - interval '1 second' "
            "where state = 'accepted'"
        )
        self._polls_fail, self._asked = is_failing, []
        collect.polls(self.ctx)
        for call in self._calls("accepted"):
            self._expect_poll(call)
        if self._asked:
            raise Divergence(f"asked for nothing: {self._asked}")
        self.agree()

    def _expect_poll(self, call: Call) -> None:
        can_be_polled = {
            "lance": True,
            "pronto": len(call.keys) == 1 and call.has_job,
            "apollo": call.has_job and "mobile" in call.group,
        }[call.provider]
        self._count("poll")
        said: Said | None = Said("not_ready")
        if can_be_polled:
            if not self._asked or self._asked[0][:2] != (call.call_id, "poll"):
                raise Divergence(f"call {call.call_id} was not polled: {self._asked}")
            said = self._asked.pop(0)[2]
            self._count(
                "poll failed" if said is None else "poll answered", said is None or bool(said.words)
            )
        self.books.poll(call, said or Said("not_ready"))
