"""The in-memory model: what calls, charge lines, money and fields must be, told by the documents.

It knows nothing of tables and imports no decision of the engine. Whose turn it is, and where, is
decided in `model_choices.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from .model_records import LIVE, UNSETTLED, Call, Line, Person, Quest
from .model_said import MICRO, PRICES, Place, Said, Word


class Books:
    """Everything that is remembered of calls, money and fields."""

    def __init__(self, persons: Iterable[Person]) -> None:
        self.persons = {p.person_id: p for p in persons}
        self.calls: dict[int, Call] = {}
        self.quests: list[Quest] = []
        self.clock = 0
        self.to_halve: Call | None = None
        self.is_awaited: Callable[[Quest], bool] = lambda _: True
        """Whether a row of a plan waits for a field."""

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def lines(self) -> Iterable[Line]:
        return (line for call in self.calls.values() for line in call.lines)

    # ---- before the reply -----------------------------------------------------------------------

    def is_withdrawn(self, call: Call) -> bool:
        """Somebody in the call must not be asked for any more, or not for all of it."""
        return any(
            line.person.now.is_blocked
            or ("personal_email" in line.fields and not line.person.now.consents)
            for line in call.lines
        )

    def arm(self, call: Call, *, is_paused: bool) -> bool:
        if call.state != "reserved":
            return False
        if is_paused or call.is_lease_over or self.is_withdrawn(call):
            self.release(call)
            return False
        call.state, call.is_lease_over = "sending", False
        call.sends += 1
        return True

    def arm_again(self, call: Call, *, is_paused: bool) -> bool:
        may = call.state == "in_doubt" and call.is_lease_over
        if not may or is_paused or self.is_withdrawn(call):
            return False
        call.is_lease_over = False
        call.sends += 1
        return True

    def never_sent(self, call: Call) -> None:
        if call.state == "sending" or (call.state == "in_doubt" and call.sends == 1):
            self.release(call)

    def reply_lost(self, call: Call) -> None:
        if call.state == "sending":
            self.doubt(call)

    def keep(self, call: Call, settlement: str, said: Said) -> None:
        """A reply is stored before anybody reads it."""
        call.unread.append((settlement, said))
        if call.state == "sending":
            call.state = "responded"

    def abandoned(self, call: Call) -> None:
        """Its process is gone, or slept past its lease."""
        if call.state == "reserved":
            self.release(call)
        elif call.state == "sending":
            self.doubt(call)

    # ---- no answer ------------------------------------------------------------------------------

    def release(self, call: Call, verdict: str | None = None) -> None:
        """Nothing was bought. With a verdict the one record in it is what the provider refused."""
        for line in [x for x in call.lines if x.state in UNSETTLED]:
            line.state = "released"
            line.verdict = verdict or line.verdict
            for field_name, quest in line.asked.items():
                line.outcomes[field_name] = verdict or "error"
                quest.has_error |= verdict is None
                if quest.waits_for is line:
                    quest.waits_for = None
                    if verdict is None:
                        quest.state = "open"
                        self._expire_if_unwanted(quest)
                    else:
                        self.move_on(quest)
        self._close(call, when_closed="released")

    def doubt(self, call: Call) -> None:
        for line in [x for x in call.lines if x.state == "held"]:
            line.state = "in_doubt"
            for field_name, quest in line.asked.items():
                line.outcomes[field_name] = "in_doubt"
                if quest.waits_for is line:
                    quest.state = "in_doubt"
        self._close(call, when_open="in_doubt")

    def write_off(self, call: Call) -> None:
        for line in [x for x in call.lines if x.state == "in_doubt"]:
            line.state = "written_off"
            for field_name, quest in line.asked.items():
                line.outcomes[field_name] = "written_off"
                if quest.waits_for is line:
                    quest.waits_for = None
                    self.move_on(quest)
        self._close(call)

    def resolve(self, call: Call, *, is_charged: bool, amount: int) -> None:
        """A person settles a call in doubt by evidence."""
        doubtful = [x for x in call.lines if x.state == "in_doubt"]
        costs = _shares(amount, [x.hold for x in doubtful])
        for line, cost in zip(doubtful, costs, strict=True):
            line.state = "posted" if is_charged else "released"
            line.cost = cost
            line.verdict = "answer_lost" if is_charged else line.verdict
            for field_name, quest in line.asked.items():
                line.outcomes[field_name] = "written_off" if is_charged else "error"
                quest.has_error |= not is_charged
                if quest.waits_for is line:
                    quest.waits_for = None
                    if is_charged:
                        self.move_on(quest)
                    else:
                        quest.state = "open"
                        self._expire_if_unwanted(quest)
        self._close(call, when_open="in_doubt")

    # ---- answers --------------------------------------------------------------------------------

    def poll(self, call: Call, said: Said) -> None:
        """A poll of an accepted call; what it leaves open is waited for."""
        if said.words:
            self._answer(call, "poll", replace(said, kind="accepted", has_job=False))

    def deliver(self, call: Call, news: Sequence[Said]) -> list[str]:
        """Deliveries of one call, oldest first, together; what becomes of each."""
        fresh: dict[Place, Word] = {}
        cost: int | None = None
        states: list[str] = []
        for said in news:
            if said.kind == "not_ready":
                states.append("quarantined")
                continue
            words = {p: w for p, w in said.words.items() if self._is_visible(call, p, w)}
            is_whole = words.keys() == said.words.keys()
            if not is_whole and call.state in ("sending", "responded", "in_doubt"):
                # The reply that says who is meant may still come.
                states.append("new")
                continue
            lines = {place: call.place(place) for place in words}
            unsettled = {
                place: words[place]
                for place, line in lines.items()
                if line is not None and line.state in UNSETTLED and place not in fresh
            }
            if unsettled:
                fresh |= unsettled
                # What it costs is said of others too, who cannot be told any more.
                figure = None if call.state == "written_off" and not is_whole else said.cost
                cost = cost if figure is None else (cost or 0) + figure
                states.append("applied")
            elif not words:
                states.append("quarantined")
            else:
                known = all(
                    set(word.values)
                    <= (line.heard if line and place not in fresh else set(word.values))
                    for (place, word), line in zip(words.items(), lines.values(), strict=True)
                )
                states.append("ignored" if known else "quarantined")
        if fresh:
            self._answer(call, "delivery", Said("accepted", fresh, cost=cost))
        return states

    def _is_visible(self, call: Call, place: Place, word: Word) -> bool:
        """Apollo names people by its own id, which it told with its reply or before."""
        line = call.place(place)
        if line is None or call.provider != "apollo":
            return line is not None
        return line.subject == word.subject or (line.subject is None and len(call.keys) == 1)

    def read_kept(self, call: Call) -> bool:
        """Applies the stored replies that nobody has applied; whether the call is to be halved."""
        self.to_halve = None
        while call.unread:
            settlement, said = call.unread.pop(0)
            self.apply(call, settlement, said)
        return self.to_halve is call

    def apply(self, call: Call, settlement: str, said: Said) -> None:
        is_reread = settlement.startswith("reread")
        match said.kind:
            case "answered" | "accepted":
                self._answer(call, settlement, said)
            case "garbled":
                self.doubt(call)
            case "not_ready":
                pass
            case _ if call.state == "in_doubt" and (is_reread or call.sends > 1):
                pass
            case "invalid" if len(call.keys) == 1:
                self.release(call, "invalid_input")
            case kind:
                self.release(call)
                self.to_halve = call if kind == "invalid" else None

    def _answer(self, call: Call, settlement: str, said: Said) -> None:
        is_reread = settlement.startswith("reread")
        is_taken_on = said.kind == "accepted"
        findings: list[tuple[Line, Word]] = []
        for line in call.lines:
            word = said.words.get((line.key, line.product))
            if line.state not in UNSETTLED or (word and word.verdict == "pending"):
                continue
            if word is not None:
                findings.append((line, self._of_stranger(call, line, word)))
            elif said.kind == "answered" and settlement.startswith(("submit", "reread")):
                findings.append((line, Word("unknown_verdict")))
        is_incomplete = any(word.verdict == "unknown_verdict" for _, word in findings)
        if is_reread and call.state == "in_doubt" and not is_taken_on and is_incomplete:
            return
        for (key, _), word in said.words.items():
            if word.subject:
                for line in call.lines:
                    if line.key == key:
                        line.subject = word.subject
        self._post(call, settlement, said, findings)
        for line, word in findings:
            self._learn(line, word)
        for line, word in findings:
            self._tell_quests(line, word)
        call.has_job |= said.has_job
        stays = call.state in ("sending", "in_doubt", "written_off")
        if is_reread and is_taken_on:
            stays = False
        self._close(call, when_open=call.state if stays else "accepted")

    def _of_stranger(self, call: Call, line: Line, word: Word) -> Word:
        """A mobile that follows somebody else's match is somebody else's."""
        is_strange = any(x.key == line.key and x.verdict == "other_person" for x in call.lines)
        if is_strange and word.verdict == "found":
            return Word("other_person", word.values, True, word.is_late, word.subject)
        return word

    def _post(
        self, call: Call, settlement: str, said: Said, findings: Sequence[tuple[Line, Word]]
    ) -> None:
        is_reread = settlement.startswith("reread")
        charged = [
            (line, word)
            for line, word in findings
            if word.is_charged
            and not word.is_late
            and not (is_reread and self._is_paid_elsewhere(line))
        ]
        cost = said.cost
        rest = 0
        for line, _ in findings:
            line.cost = 0
        if not findings:
            booked = sum(line.cost for line in call.lines)
            is_of_request = settlement.startswith(("submit", "reread"))
            rest = max(0, (cost or 0) - booked) if is_of_request else 0
        elif cost is None or is_reread:
            paid: set[tuple[str | None, str]] = set()
            for line, _ in charged:
                # Two persons of one call may be one human, whom nobody charges for twice.
                human = (line.subject, line.product)
                if not is_reread or line.subject is None or human not in paid:
                    line.cost = PRICES[call.provider][line.product] * MICRO
                paid.add(human)
        else:
            rest = cost
            for with_data in (True, False):
                part = [x for x, w in charged if (w.verdict != "not_found") == with_data]
                prices = [PRICES[call.provider][x.product] * MICRO for x in part]
                shares = _shares(min(rest, sum(x.hold for x in part)), prices)
                for line, share in zip(part, shares, strict=True):
                    line.cost = min(share, line.hold)
                rest -= sum(x.cost for x in part)
        self._move_states(call, findings, rest)

    def _move_states(
        self, call: Call, findings: Sequence[tuple[Line, Word]], unassigned: int
    ) -> None:
        """What no line explains is taken from the holds that end here; the rest is an overage."""
        room = sum(line.hold - line.cost for line, _ in findings)
        call.unassigned += unassigned
        call.overage += max(0, unassigned - room)
        for line, word in findings:
            line.state = "released" if word.verdict == "failed" else "posted"
            line.verdict = word.verdict

    def _is_paid_elsewhere(self, line: Line) -> bool:
        return any(
            x.call_id != line.call_id and x.provider == line.provider and x.cost > 0
            and x.product == line.product and x.subject == line.subject is not None
            for x in self.lines()
        )  # fmt: skip

    def _learn(self, line: Line, word: Word) -> None:
        """What may be kept is kept; it may tell by what else the person can be asked for."""
        person = line.person.now
        line.kept = {}
        if person.is_blocked:
            return
        line.kept = {
            name: good
            for name, good in word.values.items()
            if name != "personal_email" or person.consents
        }
        line.heard = set(line.kept)
        if word.verdict == "other_person":
            line.kept = {}
            return
        told = {kind for kind in word.told if kind != "email" or "work_email" in line.kept}
        if word.subject:
            person.ids[line.provider] = word.subject
            told.add(f"{line.provider}_id")
        person.known |= told
        for other in self.calls[line.call_id].lines:
            if other.person.now is person:
                other.sent |= told

    def _tell_quests(self, line: Line, word: Word) -> None:
        for name, quest in line.asked.items():
            outcome = {
                "other_person": "other_person",
                "failed": "error",
                "unknown_verdict": "error",
            }.get(word.verdict, "found" if name in line.kept else "not_found")
            line.outcomes[name] = outcome
            quest.has_error |= outcome == "error"
            quest.has_candidate |= outcome == "found"
            before = quest.told_by
            is_last = before is None or before.call_id <= line.call_id
            if outcome == "found" and is_last and not quest.is_served:
                quest.told_by = line
            settles = outcome == "found" and line.kept[name]
            is_current = quest.waits_for is line
            if is_current:
                quest.waits_for = None
            if settles and (is_current or quest.state == "open"):
                self.finish(quest, "found")
            elif is_current:
                self.move_on(quest)

    # ---- fields ---------------------------------------------------------------------------------

    def move_on(self, quest: Quest) -> None:
        quest.position += 1
        quest.state = "open"
        if quest.next_provider is None:
            self.finish(quest, "found" if quest.has_candidate else "not_found")
        self._expire_if_unwanted(quest)

    def serve(self, quest: Quest, line: Line) -> None:
        """An earlier answer settles it."""
        quest.has_candidate = quest.is_served = True
        quest.told_by = line
        self.finish(quest, "found")

    def finish(self, quest: Quest, result: str) -> None:
        quest.state, quest.result = "finished", result
        quest.closed_at = self.tick()
        quest.closed_known = frozenset(quest.person.now.known)

    def expire(self, quest: Quest) -> None:
        quest.state, quest.closed_at = "expired", self.tick()

    def _expire_if_unwanted(self, quest: Quest) -> None:
        """Its person was blocked while it was under way, or no row waits for it any more."""
        is_wanted = not quest.person.now.is_blocked and self.is_awaited(quest)
        if quest.state == "open" and not is_wanted:
            self.expire(quest)

    def _close(
        self, call: Call, *, when_open: str = "accepted", when_closed: str = "settled"
    ) -> None:
        """A call is settled when its last line is; what is written off is not settled."""
        if any(line.state in LIVE for line in call.lines):
            call.state = when_open
        elif call.state in ("settled", "released"):
            pass
        elif any(line.state == "written_off" for line in call.lines):
            call.state = "written_off"
        else:
            call.state = when_closed
        if call.state == "accepted":
            call.deadline = call.deadline or "running"
        elif call.state == "in_doubt":
            call.horizon = call.horizon or "running"

    # ---- money ----------------------------------------------------------------------------------

    def accounts(self, provider: str) -> dict[str, int]:
        """Balances: what the lines say, and nothing else."""
        balances = dict.fromkeys(("held", "in_doubt", "written_off", "spent", "overage_due"), 0)
        for call in self.calls.values():
            if call.provider != provider:
                continue
            balances["spent"] += call.unassigned
            balances["overage_due"] -= call.overage
            for line in call.lines:
                if line.state in UNSETTLED:
                    balances[line.state] += line.hold
                balances["spent"] += line.cost
        return balances

    def budget(self, providers: Iterable[str]) -> Mapping[str, int]:
        """What a day's budget is used for; what is written off counts as spent."""
        parts = [self.accounts(p) for p in providers]
        overage = -sum(p["overage_due"] for p in parts)
        return {
            "held": sum(p["held"] for p in parts),
            "in_doubt": sum(p["in_doubt"] for p in parts),
            "spent": sum(p["spent"] + p["written_off"] for p in parts) - overage,
            "overage": overage,
        }


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Largest remainder: whole parts first, what is left to the largest fractions, earlier ones
    first."""
    if not sum(weights):
        return [0] * len(weights)
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    parts = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda i: (parts[i] - exact[i], i))
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    return parts
