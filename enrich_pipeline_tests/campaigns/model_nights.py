"""The in-memory model: nights, the fields that they open, and persons who turn out to be one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .model_books import Books
from .model_choices import FIELDS, Choices
from .model_records import Person, Quest
from .model_tables import ORDER


@dataclass(slots=True)
class Contact:
    contact_id: str
    person: Person
    consents: bool


@dataclass(slots=True)
class Row:
    """One planned (day, contact, field). Days are counted back from today."""

    day: int
    contact: Contact
    field: str
    planned_at: int
    state: str = "waiting"

    @property
    def person(self) -> Person:
        return self.contact.person


class Nights:
    """The plans of all days."""

    def __init__(self, books: Books, choices: Choices, contacts: Sequence[Contact]) -> None:
        self.books, self.choices, self.contacts = books, choices, contacts
        self.rows: list[Row] = []
        self.days: set[int] = set()
        books.is_awaited = self._is_planned

    def plan(self, day: int) -> None:
        """Every stale field that can be bought, once per date; today's plan grows."""
        self.follow()
        if day > 0 and day in self.days:
            return
        planned = {row.contact.contact_id for row in self.rows if row.day == day}
        moment = self.books.tick()
        for contact in self.contacts:
            if contact.contact_id in planned:
                continue
            for field in FIELDS:
                if field == "personal_email" and not contact.consents:
                    continue
                if self.choices.is_selectable(contact.person, field, ORDER[field]):
                    self.rows.append(Row(day, contact, field, moment))
        self.days.add(day)

    def open(self, day: int) -> None:
        """Gives every waiting row its quest, or the answer that came since it was planned."""
        waiting = [row for row in self.rows if row.day == day and row.state == "waiting"]
        for row in waiting:
            if row.person.is_blocked:
                row.state = "blocked"
        for quest in self.books.quests:
            of_row = any(
                (row.person, row.field) == (quest.person, quest.field)
                for row in waiting
                if row.state == "blocked"
            )
            if (
                quest.state == "open"
                and quest.person.now.is_blocked
                and (of_row or quest.day == day)
            ):
                self.books.expire(quest)
        asked: dict[tuple[int, str], list[Row]] = {}
        for row in waiting:
            if row.state == "waiting":
                asked.setdefault((row.person.person_id, row.field), []).append(row)
        for rows in asked.values():
            self._open(day, rows)

    def _open(self, day: int, rows: Sequence[Row]) -> None:
        person, field = rows[0].person, rows[0].field
        moment = min(row.planned_at for row in rows)
        quests = [q for q in self.books.quests if q.person.now is person and q.field == field]
        finished = [
            q
            for q in quests
            if q.state == "finished" and q.closed_at >= moment
            and (q.day != day or q.person is not person)
        ]  # fmt: skip
        if finished and not any(q.is_live and q.person is person for q in quests):
            latest = max(finished, key=lambda q: q.closed_at)
            for row in rows:
                row.state = "reused" if latest.result == "found" else "done"
        elif not any(q.is_live for q in quests) and all(q.closed_at < moment for q in quests):
            self.books.quests.append(Quest(person, field, ORDER[field], day, self.books.tick()))

    def candidates(self, day: int) -> Iterable[Person]:
        """Persons whose turn a drain of this day may be."""
        waiting = [row for row in self.rows if row.day == day and row.state == "waiting"]
        return {row.person.person_id: row.person for row in waiting}.values()

    def may_ask(self, day: int, person: Person, provider: str) -> bool:
        """Whether an open field of the person at the provider is in the plan of the day."""
        fields = {
            row.field
            for row in self.rows
            if row.day == day and row.state == "waiting" and row.person is person
        }
        return any(
            q.person is person and q.state == "open" and q.next_provider == provider
            and q.field in fields
            for q in self.books.quests
        )  # fmt: skip

    # ---- merges ----------------------------------------------------------------------------------

    def unite(self, survivor: Person, other: Person) -> None:
        """Two persons turn out to be one: the older one lives on."""
        other.merged_into = survivor
        survivor.known |= other.known
        survivor.consents |= other.consents
        survivor.is_blocked |= other.is_blocked
        for provider, known in other.ids.items():
            survivor.ids.setdefault(provider, known)
        for contact in self.contacts:
            if contact.person is other:
                contact.person = survivor
        self.follow()

    def follow(self) -> None:
        """What is not under way goes over to survivors, unless they look for it themselves."""
        moving = []
        for quest in self.books.quests:
            survivor = quest.person.merged_into
            if survivor is None or quest.state in ("pending", "in_doubt"):
                continue
            seeks = any(
                q.person is survivor and q.field == quest.field and q.is_live
                for q in self.books.quests
            )
            if not seeks and (quest.state != "open" or self._is_awaited(survivor, quest.field)):
                moving.append(quest)
            elif quest.state == "open":
                self.books.expire(quest)
        for quest in moving:
            assert quest.person.merged_into is not None
            self.books.quests.remove(quest)
            self.books.quests.append(quest)
            quest.person = quest.person.merged_into

    def _is_planned(self, quest: Quest) -> bool:
        return any(
            row.state == "waiting" and row.person is quest.person.now and row.field == quest.field
            for row in self.rows
        )

    def _is_awaited(self, person: Person, field: str) -> bool:
        """Whether a row waits for this field that nothing has answered since it was planned."""
        answered_at = [
            q.closed_at
            for q in self.books.quests
            if q.person is person and q.field == field and q.state == "finished"
        ]
        return any(
            row.planned_at > max(answered_at, default=-1)
            for row in self.rows
            if row.state == "waiting" and row.person is person and row.field == field
        )
