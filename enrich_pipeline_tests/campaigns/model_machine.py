"""The machine of the model campaign: all steps, and courses of steps too seldom drawn by chance.

One step of the real engine, the same step of the model; after every one the tables must say what
the model says, and the books must hold against what the providers charged.
"""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from .model_drive import A_PROVIDER, AN_INDEX, AN_OUTCOME, SOME_FATES
from .model_people import People
from .model_records import Call
from .model_senders import Sender

TRANSITIONS = (
    "claim", "arm", "not armed", "send: reply", "send: reply lost", "send: never sent",
    "send: refused", "send: halved", "send: not understood", "send: accepted", "store", "settle",
    "process dies", "dies in a transaction", "sweep: released", "sweep: in doubt",
    "sweep: reply read", "sweep: deadline passed", "sweep: written off", "sweep: asked again",
    "reply after a doubt", "reply after a write-off", "webhook", "webhook again",
    "webhook before the reply", "webhook after a doubt", "webhook after a write-off",
    "webhook of another call", "webhook of nobody", "poll", "poll answered", "poll failed",
    "consent withdrawn", "consent given", "suppressed", "budget changed", "paused", "resumed",
    "resolved charged", "resolved not charged", "asked again: free", "asked again: idempotent",
    "night planned", "night planned again", "persons merged", "merged in flight",
)  # fmt: skip

_NOBODY = ("miss",) * 4
_LOST = "never_arrives"
_FAILURES = ("unsent", "unsent", "invalid", "invalid", "garbles")


class Machine(People):
    """Everything that can happen to a call and to the people in it."""

    @rule(
        provider=A_PROVIDER,
        is_written_off=st.booleans(),
        outcome=AN_OUTCOME,
        fates=SOME_FATES,
    )
    def oversleep(
        self, provider: str, is_written_off: bool, outcome: str, fates: Sequence[str]
    ) -> None:
        """A process sleeps past its lease, and hears its reply all the same."""
        sender = self._ask_somebody(provider)
        if sender is None:
            return
        call = self.books.calls[sender.claimed.call_id]
        self._time_is_up(call, "lease_until")
        if is_written_off:
            self._time_is_up(call, "write_off_at")
        self._finish(sender, outcome, fates)

    @rule(
        provider=A_PROVIDER,
        is_in_transaction=st.booleans(),
        is_swept=st.booleans(),
        fates=SOME_FATES,
    )
    def die_before_settling(
        self, provider: str, is_in_transaction: bool, is_swept: bool, fates: Sequence[str]
    ) -> None:
        """A process dies with a stored reply that it has not read."""
        sender = self._ask_somebody(provider)
        if sender is None:
            return
        self._hear(sender, "replies", fates)
        self._go_on(sender)
        self._die(is_in_transaction=is_in_transaction)
        if is_swept:
            self._sweep("replies", fates)

    @rule(
        provider=st.sampled_from(("pronto", "apollo")),
        moment=st.sampled_from(("at once", "in time", "after a doubt", "after a write-off")),
        is_astray=st.booleans(),
        is_repeated=st.booleans(),
        which=AN_INDEX,
        fates=SOME_FATES,
    )
    def answer_by_webhook(
        self,
        provider: str,
        moment: str,
        is_astray: bool,
        is_repeated: bool,
        which: int,
        fates: Sequence[str],
    ) -> None:
        """A provider takes work on and delivers it: before its own reply is stored, or too late."""
        sender = self._ask_somebody(provider)
        if sender is None:
            return
        call = self.books.calls[sender.claimed.call_id]
        self._hear(sender, "replies", fates)
        while moment != "at once" and sender.place != "over":
            self._go_on(sender)
        if moment.startswith("after"):
            self._time_is_up(call, "deadline_at")
        if moment == "after a write-off":
            self._time_is_up(call, "write_off_at")
        self._work(call, fates)
        outbox = self.providers.outbox
        for delivery in [d for d in outbox if d.call_id == call.call_id]:
            if is_astray:
                self._go_astray(delivery, which)
            self._arrive(delivery, delivery.token)
            if is_repeated:
                self._arrive(delivery, delivery.token)
            outbox.remove(delivery)
        self._apply_deliveries()
        self.agree()
        while sender.place != "over":
            self._go_on(sender)

    @rule(
        provider=st.sampled_from(("lance", "pronto", "apollo")),
        is_failing=st.booleans(),
        fates=SOME_FATES,
    )
    def answer_by_poll(self, provider: str, is_failing: bool, fates: Sequence[str]) -> None:
        """A provider takes work on and is asked what became of it."""
        sender = self._ask_somebody(provider)
        if sender is None:
            return
        self._finish(sender, "replies", fates)
        self._work(self.books.calls[sender.claimed.call_id], fates)
        self._poll(is_failing=is_failing)

    @rule(provider=A_PROVIDER, outcome=st.sampled_from(_FAILURES), fates=SOME_FATES)
    def fail(self, provider: str, outcome: str, fates: Sequence[str]) -> None:
        """A request of which the provider knows nothing afterwards, or nothing that can be read."""
        if self._reach(provider):
            self._whole_calls(provider, outcome, fates)

    @rule(
        provider=st.sampled_from(("prospeo", "agntdata", "lance", "apollo")),
        loss=st.sampled_from(("drops_reply", "never_arrives")),
        outcome=AN_OUTCOME,
        fates=SOME_FATES,
        course=st.sampled_from(("ask again", "sweep", "resolve")),
    )
    def lose_reply(
        self, provider: str, loss: str, outcome: str, fates: Sequence[str], course: str
    ) -> None:
        """A reply is lost that may have cost something; somebody finds out."""
        sender = self._ask_somebody(provider)
        if sender is None:
            return
        call = self.books.calls[sender.claimed.call_id]
        self._finish(sender, loss, fates)
        if course == "sweep":
            self._pass_time("lease_until", call)
            self._sweep(outcome, fates)
        elif course == "ask again" and call in self._repeatable():
            self._ask_again(call, outcome, fates)
        elif course == "resolve" and call in self._resolvable():
            self._resolve(call)

    @precondition(lambda self: self._are_apart())
    @rule(provider=st.sampled_from(("prospeo", "pronto", "apollo")))
    def unite_in_flight(self, provider: str) -> None:
        """Two persons turn out to be one while something is bought for them."""
        if self._reach(provider):
            self._claim(provider, 0, has_receiver=True)
        self._unite()

    # ---- courses ---------------------------------------------------------------------------------

    def _ask_somebody(self, provider: str) -> Sender | None:
        """A request that has left for the provider, if there is anybody to ask for."""
        waiting = [n for n, (_, c) in enumerate(self.queue) if c.provider == provider]
        if not waiting:
            waiting = [len(self.queue)]
            if not self._reach(provider) or not self._claim(provider, 0, has_receiver=True):
                return None
        sender = self._start(*self.queue.pop(waiting[0]))
        return sender if sender.place == "in_flight" else None

    def _reach(self, provider: str) -> bool:
        """Whether fields stand at the provider; they get there when the one before it has none."""
        if self._stand_at(provider):
            return True
        for quest in self.books.quests:
            before = quest.next_provider
            if quest.state == "open" and before and provider in quest.waterfall[quest.position :]:
                self._whole_calls(before, "replies", _NOBODY)
                return self._stand_at(provider)
        return False

    def _stand_at(self, provider: str) -> bool:
        quests = self.books.quests
        return any(q.state == "open" and q.next_provider == provider for q in quests)

    def _time_is_up(self, call: Call, clock: str) -> None:
        self._pass_time(clock, call)
        self._sweep(_LOST, _NOBODY)

    def _work(self, call: Call, fates: Sequence[str]) -> None:
        job = self.providers.jobs.get(call.call_id)
        if job is not None and job.open_keys:
            self.providers.work(job, fates)
            self.agree()
