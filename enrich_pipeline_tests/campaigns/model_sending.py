"""Steps of the model campaign: a claim, and a call from its arming to its settlement."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.reserve import Claimed

from .model_drive import A_PROVIDER, AN_INDEX, AN_OUTCOME, SOME_FATES, Drive
from .model_records import Call, Divergence
from .model_senders import Sender

_HEARD = {
    "answered": "send: reply",
    "accepted": "send: accepted",
    "lost": "send: reply lost",
    "unsent": "send: never sent",
    "garbled": "send: not understood",
}
"""What was heard of a request, as a transition; anything else is a refusal."""


class Sending(Drive):
    """Processes that claim and send, until they die."""

    @rule(provider=A_PROVIDER, has_receiver=st.sampled_from((True, True, True, False)))
    def claim(self, provider: str, has_receiver: bool) -> None:
        self._claim(provider, 0, has_receiver=has_receiver)

    @rule(provider=A_PROVIDER, day=st.integers(0, 2))
    def claim_for(self, provider: str, day: int) -> None:
        self._claim(provider, day, has_receiver=True)

    def _claim(self, provider: str, day: int, *, has_receiver: bool) -> int:
        ctx = self.ctx
        claimed = claim(
            ctx, self._partition(day), provider, Cursor(), 50,
            receiver_ready=has_receiver, last_chance=True,
        )  # fmt: skip
        fresh = self._new_calls(self.tables.seen())
        if fresh.keys() != {c.call_id for c in claimed}:
            raise Divergence(f"claimed {sorted(fresh)}, told {[c.call_id for c in claimed]}")
        persons = [p for p in self.nights.candidates(day) if self.nights.may_ask(day, p, provider)]
        made = self.choices.claim(provider, persons, fresh, ctx.run_id, has_receiver=has_receiver)
        self._count("claim", len(made))
        self.requests |= {c.call_id: c.request for c in claimed}
        self.queue += [(ctx.run_id, c) for c in claimed]
        self.agree()
        return len(made)

    @precondition(lambda self: self.queue)
    @rule(which=AN_INDEX)
    def start(self, which: int) -> None:
        run_id, claimed = self.queue.pop(which % len(self.queue))
        self._start(run_id, claimed)

    def _start(self, run_id: str, claimed: Claimed) -> Sender:
        call = self.books.calls[claimed.call_id]
        sender = Sender(self._context(run_id), self._partition(0), claimed)
        self.senders.append(sender)
        sender.go_on()
        is_armed = self.books.arm(call, is_paused=self.choices.is_paused)
        self._count("arm" if is_armed else "not armed")
        if (sender.place == "in_flight") != is_armed:
            raise Divergence(f"call {call.call_id} should be armed: {is_armed}")
        self._clean_up()
        self.agree()
        return sender

    @precondition(lambda self: self._at("in_flight"))
    @rule(which=AN_INDEX, outcome=AN_OUTCOME, fates=SOME_FATES)
    def hear(self, which: int, outcome: str, fates: Sequence[str]) -> None:
        flying = self._at("in_flight")
        self._hear(flying[which % len(flying)], outcome, fates)
        self.agree()

    def _hear(self, sender: Sender, outcome: str, fates: Sequence[str]) -> None:
        call = self.books.calls[sender.claimed.call_id]
        response, said = self._receive(call, outcome, fates)
        self.said[call.call_id] = said
        sender.go_on(response)
        self._count(_HEARD.get(said.kind, "send: refused"))

    @precondition(lambda self: self._at("answered", "stored", "unsent", "lost"))
    @rule(which=AN_INDEX)
    def go_on(self, which: int) -> None:
        halting = self._at("answered", "stored", "unsent", "lost")
        self._go_on(halting[which % len(halting)])

    def _go_on(self, sender: Sender) -> None:
        call = self.books.calls[sender.claimed.call_id]
        place, said = sender.place, self.said[call.call_id]
        sender.go_on()
        if place == "answered":
            self._count("store")
            if call.state in ("in_doubt", "written_off"):
                after = "doubt" if call.state == "in_doubt" else "write-off"
                self._count(f"reply after a {after}")
            self.books.keep(call, "submit", said)
        elif place == "stored":
            self._count("settle")
            self._read_kept([call], sender.run_id)
            if sender.result is not None:
                self.queue += [(sender.run_id, c) for c in sender.result.successors]
                self.requests |= {c.call_id: c.request for c in sender.result.successors}
        elif place == "unsent":
            self.books.never_sent(call)
        else:
            self.books.reply_lost(call)
        self._clean_up()
        self.agree()

    def _read_kept(self, calls: Sequence[Call], run_id: str | None) -> None:
        """The model reads what is stored; the halves of refused calls are told from the tables.

        Halved is by the run that sends; who sweeps has none.
        """
        fresh = self._new_calls(self.tables.seen())
        for call in calls:
            if self.books.read_kept(call) and run_id is not None:
                ids = sorted(fresh)[: len(self.choices.to_halve(call))]
                self.choices.halve(call, {i: fresh.pop(i) for i in ids}, run_id)
                self._count("send: halved")
                self._remember_requests(self._context(run_id), ids)
        if fresh:
            raise Divergence(f"calls of nobody: {fresh}")

    @rule(provider=A_PROVIDER, outcome=AN_OUTCOME, fates=SOME_FATES)
    def whole_calls(self, provider: str, outcome: str, fates: Sequence[str]) -> None:
        self._whole_calls(provider, outcome, fates)

    def _whole_calls(self, provider: str, outcome: str, fates: Sequence[str]) -> None:
        """Claims, and takes every call as far as it goes; `outcome` is that of the first one."""
        before = len(self.queue)
        self._claim(provider, 0, has_receiver=True)
        while len(self.queue) > before:
            sender = self._start(*self.queue.pop(before))
            if sender.place == "in_flight":
                self._finish(sender, outcome, fates)
                outcome = "replies"

    def _finish(self, sender: Sender, outcome: str, fates: Sequence[str]) -> None:
        self._hear(sender, outcome, fates)
        while sender.place != "over":
            self._go_on(sender)

    # ---- processes end ---------------------------------------------------------------------------

    @precondition(lambda self: self.senders or self.queue)
    @rule(is_in_transaction=st.booleans())
    def process_dies(self, is_in_transaction: bool) -> None:
        self._die(is_in_transaction=is_in_transaction)

    def _die(self, *, is_in_transaction: bool) -> None:
        mine = [s for s in self.senders if s.run_id == self.run_id]
        for sender in mine:
            if is_in_transaction and sender.place == "stored":
                sender.die_in_transaction()
                self._count("dies in a transaction")
            sender.kill()
        self.queue = [(run, c) for run, c in self.queue if run != self.run_id]
        self._lock("pg_advisory_unlock")
        self._new_run()
        self._count("process dies")
        self._clean_up()
        self.agree()
