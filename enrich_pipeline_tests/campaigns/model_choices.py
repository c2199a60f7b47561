"""The in-memory model: who may be asked where for what, told by the documents.

Claims and plans of the engine are held against these rules; which persons share a call is the
engine's choice, within its limits.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from .model_books import Books
from .model_catalog import Product, catalog, group_of, price
from .model_records import LIVE, UNSETTLED, Call, Divergence, Line, Person, Quest
from .model_said import PRICES

LARGEST_CALL = 2
MISSES = frozenset({"not_found", "invalid_input", "other_person", "answer_lost"})
FIELDS = ("work_email", "phone", "personal_email", "profile")


@dataclass(frozen=True, slots=True)
class Want:
    """One person's part of a call: product -> the quests that it shall answer."""

    person: Person
    group: str
    products: Mapping[Product, tuple[Quest, ...]]

    @property
    def hold(self) -> int:
        return sum(price(self.group_provider, p) for p in self.products)

    group_provider: str


class Choices:
    """Decisions over the books, under the budgets and switches of the moment."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.is_paused = False
        self.night_cap = 0
        self.provider_cap: int | None = None
        self.person_cap = 0

    # ---- memory ---------------------------------------------------------------------------------

    def memory(
        self, person: Person, provider: str, product: Product, *, larger: bool = True
    ) -> Line | None:
        """The latest word of this product on the person; a question under way comes first.

        What was bought while the person consented answers the smaller question (`larger`).
        """
        wanted = {product.options}
        if larger and not person.consents:
            with_consent = catalog(provider, consents=True)
            wanted |= {p.options for p in with_consent if p.name == product.name}
        found: list[Line] = []
        for options in sorted(wanted):
            lines = [
                line
                for line in self.books.lines()
                if line.person.now is person
                and (line.provider, line.product, line.options) == (provider, product.name, options)
                and (line.state != "released" or line.verdict is not None)
            ]
            live = [line for line in lines if line.state in LIVE]
            if lines:
                found.append((live or lines)[-1])
        return max(found, key=lambda x: self._age(x)) if found else None

    def _age(self, line: Line) -> tuple[int, int]:
        call = self.books.calls[line.call_id]
        return line.call_id, call.lines.index(line)

    def why_not_again(
        self, person: Person, provider: str, product: Product, *, larger: bool = True
    ) -> str | None:
        """A reason of its own memory against asking a provider for a product."""
        line = self.memory(person, provider, product, larger=larger)
        if line is None:
            return None
        if line.state in LIVE:
            return "asked_already"
        if line.verdict == "found":
            return "answered"
        if line.state == "written_off":
            return "written_off"
        if line.verdict in MISSES:
            return None if (person.known & product.told_by) - line.sent else "known_miss"
        return "failed_tonight" if line.verdict == "failed" else None

    def is_eligible(self, person: Person, product: Product) -> bool:
        return not product.needs or any(needed <= person.known for needed in product.needs)

    # ---- a claim --------------------------------------------------------------------------------

    def turn(
        self, person: Person, provider: str, quests: Sequence[Quest], *, has_receiver: bool
    ) -> list[Want]:
        """What happens to the open quests of one person at a provider; returns what is bought."""
        if person.is_blocked:
            for quest in quests:
                self.books.expire(quest)
            return []
        products = catalog(provider, consents=person.consents)
        buy: dict[Product, list[Quest]] = {}
        past: list[Quest] = []
        for quest in quests:
            product = next((p for p in products if quest.field in p.fields), None)
            is_allowed = quest.field != "personal_email" or person.consents
            if is_allowed and (told := self._told_meanwhile(quest)):
                self.books.serve(quest, told)
                continue
            if product is None:
                past.append(quest)
                continue
            reason = self.why_not_again(person, provider, product)
            if reason == "asked_already":
                continue
            if reason == "answered":
                line = self.memory(person, provider, product)
                assert line is not None
                if line.kept.get(quest.field):
                    self.books.serve(quest, line)
                else:
                    past.append(quest)
            elif reason or not self.is_eligible(person, product):
                past.append(quest)
            elif not self.is_paused and (has_receiver or not product.needs_receiver):
                buy.setdefault(product, []).append(quest)
        past += self._bring(person, provider, products, buy)
        self._await_siblings(person, provider, products, buy)
        for quest in past:
            self.books.move_on(quest)
        if not buy or sum(price(provider, p) for p in buy) > self._free(person):
            return []
        return [
            Want(person, group, {p: tuple(buy[p]) for p in members}, provider)
            for group, members in group_of(provider, list(buy))
        ]

    def _told_meanwhile(self, quest: Quest) -> Line | None:
        """What settled the same search of a person who has become one with this one since."""
        others = [
            q
            for q in self.books.quests
            if q.person.merged_into is quest.person and q.field == quest.field
            and q.result == "found" and q.closed_at >= quest.opened_at
        ]  # fmt: skip
        told = max(others, key=lambda q: q.closed_at).told_by if others else None
        return told if told is not None and told.kept.get(quest.field) else None

    def _bring(
        self,
        person: Person,
        provider: str,
        products: Sequence[Product],
        buy: dict[Product, list[Quest]],
    ) -> list[Quest]:
        """A mobile brings its match, a missed one anew; one that would be paid twice forbids it."""
        past: list[Quest] = []
        for product, asked in list(buy.items()):
            brought = next((p for p in products if p.name == product.brings), None)
            if brought is None or brought in buy:
                continue
            reason = self.why_not_again(person, provider, brought)
            if reason == "asked_already":
                del buy[product]
            elif reason and brought.repeat_costs:
                del buy[product]
                past += asked
            elif reason not in ("answered", "written_off"):
                buy[brought] = []
        return past

    def _await_siblings(
        self,
        person: Person,
        provider: str,
        products: Sequence[Product],
        buy: dict[Product, list[Quest]],
    ) -> None:
        """What a field still on its way here would buy again is not bought before it."""
        on_their_way = {
            q.field
            for q in self.books.quests
            if q.person is person and q.is_live and provider in q.waterfall[q.position + 1 :]
        }
        for product in list(buy):
            bringers = [p for p in products if p.brings == product.name]
            is_brought = any(p in buy for p in bringers)
            will_be_brought = any(on_their_way & set(p.fields) for p in bringers)
            if product.repeat_costs and not is_brought and will_be_brought:
                del buy[product]

    def _free(self, person: Person) -> int:
        used = 0
        for line in self.books.lines():
            if line.person.now is person:
                used += line.hold if line.state in UNSETTLED else min(line.cost, line.hold)
        return self.person_cap - used

    def claim(
        self,
        provider: str,
        candidates: Iterable[Person],
        claimed: Mapping[int, Mapping[str, set[str]]],
        run_id: str,
        *,
        has_receiver: bool,
    ) -> list[Call]:
        """Holds a claim against what it should have been; `claimed`: call -> key -> products."""
        wants: dict[tuple[str, frozenset[str], str], Want] = {}
        room = self.room(provider)
        for person in candidates:
            quests = [
                q
                for q in self.books.quests
                if q.person is person and q.state == "open" and q.next_provider == provider
            ]
            for want in self.turn(person, provider, quests, has_receiver=has_receiver):
                names = frozenset(p.name for p in want.products)
                wants[f"p{person.person_id}", names, want.group] = want
        made: list[Call] = []
        left = dict(wants)
        for call_id, items in sorted(claimed.items()):
            members = []
            for key, products in items.items():
                found = [k for k in left if k[:2] == (key, frozenset(products))]
                if not found:
                    raise Divergence(f"call {call_id} asks {provider} for {products} of {key}")
                members.append(left.pop(found[0]))
            if len({m.group for m in members}) != 1 or len(members) > LARGEST_CALL:
                raise Divergence(f"call {call_id} mixes {[m.group for m in members]}")
            made.append(self.reserve(call_id, provider, members, run_id))
        self._judge_rest(provider, made, list(left.values()), room)
        return made

    def _judge_rest(
        self, provider: str, made: Sequence[Call], left: Sequence[Want], room: int
    ) -> None:
        """Calls are full, and only what the budgets have no room for stays behind."""
        used = sum(line.hold for call in made for line in call.lines)
        if used > room:
            raise Divergence(f"{used} held at {provider} where {room} were free")
        if (
            left
            and min(w.hold for w in left) + used <= room
            and max(w.hold for w in left) + used <= room
        ):
            raise Divergence(f"{[w.person.person_id for w in left]} were not asked at {provider}")
        sizes = Counter(call.group for call in made for _ in call.keys)
        calls = Counter(call.group for call in made)
        for group, persons in sizes.items():
            if not left and calls[group] != ceil(persons / LARGEST_CALL):
                raise Divergence(f"{calls[group]} calls for {persons} persons at {provider}")

    def room(self, provider: str) -> int:
        """What the budgets of the day allow for one more call."""
        night = self.books.budget(PRICES)
        free = self.night_cap - (night["held"] + night["in_doubt"] + night["spent"])
        if self.provider_cap is not None:
            own = self.books.budget([provider])
            free = min(free, self.provider_cap - (own["held"] + own["in_doubt"] + own["spent"]))
        return max(0, free)

    def reserve(self, call_id: int, provider: str, members: Sequence[Want], run_id: str) -> Call:
        lines = []
        for want in members:
            for product, quests in want.products.items():
                line = Line(
                    call_id,
                    f"p{want.person.person_id}",
                    want.person,
                    provider,
                    product.name,
                    product.options,
                    product.fields,
                    price(provider, product),
                    set(want.person.known & product.told_by),
                    {q.field: q for q in quests},
                    subject=want.person.ids.get(provider),
                )
                for quest in quests:
                    quest.state, quest.waits_for = "pending", line
                    line.outcomes[quest.field] = "pending"
                lines.append(line)
        has_token = any(p.needs_receiver for w in members for p in w.products)
        call = Call(call_id, provider, members[0].group, run_id, lines, has_token)
        self.books.calls[call_id] = call
        return call

    def to_halve(self, parent: Call) -> list[str]:
        """Who is asked for again: two at least, and nobody who is blocked or somebody else now."""
        keys = {
            x.key for x in parent.lines if x.person.merged_into is None and not x.person.is_blocked
        }
        return sorted(keys) if len(keys) > 1 else []

    def halve(
        self, parent: Call, made: Mapping[int, Mapping[str, set[str]]], run_id: str
    ) -> list[Call]:
        """A call that was refused because of one record is made again in two halves."""
        halves = []
        for call_id, items in sorted(made.items()):
            members = [self._again(parent, key) for key in items]
            for key, products in items.items():
                sent = {x.product for x in parent.lines if x.key == key}
                if products != sent:
                    raise Divergence(f"call {call_id} asks for {products}, not {sent}")
            halves.append(self.reserve(call_id, parent.provider, members, run_id))
        keys = [key for call in halves for key in call.keys]
        wanted = self.to_halve(parent)
        if sorted(keys) != sorted(wanted) or any(len(c.keys) > 1 for c in halves):
            raise Divergence(f"call {parent.call_id} of {wanted} was halved into {keys}")
        return halves

    def _again(self, parent: Call, key: str) -> Want:
        lines = [x for x in parent.lines if x.key == key]
        person = lines[0].person
        known = {p for c in (False, True) for p in catalog(parent.provider, consents=c)}
        products = [
            next(p for p in known if (p.name, p.options) == (x.product, x.options)) for x in lines
        ]
        taken: set[str] = set()
        asked: dict[Product, tuple[Quest, ...]] = {}
        for product in products:
            mine = tuple(
                q
                for q in self.books.quests
                if q.person is person and q.state == "open"
                and q.next_provider == parent.provider
                and q.field in product.fields and q.field not in taken
            )  # fmt: skip
            taken |= {q.field for q in mine}
            asked[product] = mine
        return Want(person, parent.group, asked, parent.provider)

    # ---- a night --------------------------------------------------------------------------------

    def is_selectable(self, person: Person, field: str, waterfall: Sequence[str]) -> bool:
        """Whether a night may plan a stale field: somebody of its waterfall can be asked."""
        if person.is_blocked:
            return False
        quests = [q for q in self.books.quests if q.person is person and q.field == field]
        latest = quests[-1] if quests else None
        if latest is not None and latest.state == "finished":
            is_old_news = person.known <= latest.closed_known
            if latest.result == "found" and latest.next_provider and is_old_news:
                return False
            if is_old_news and set(waterfall) <= set(latest.waterfall) and not latest.has_error:
                return False
        if any(
            q.person.merged_into is person and q.field == field
            and q.state in ("pending", "in_doubt")
            for q in self.books.quests
        ):  # fmt: skip
            return False
        if latest is not None and latest.is_live:
            return True
        return any(self._can_be_asked(person, provider, field) for provider in waterfall)

    def _can_be_asked(self, person: Person, provider: str, field: str) -> bool:
        products = catalog(provider, consents=person.consents)
        product = next((p for p in products if field in p.fields), None)
        if product is None or self.why_not_again(person, provider, product, larger=False):
            return False
        if not self.is_eligible(person, product):
            return False
        brought = next((p for p in products if p.name == product.brings), None)
        if brought is None:
            return True
        reason = self.why_not_again(person, provider, brought, larger=False)
        return not reason or (reason != "asked_already" and not brought.repeat_costs)
