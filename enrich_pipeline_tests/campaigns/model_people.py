"""Steps of the model campaign: nights, what people decide, what operators do."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import text

from enrich_pipeline.store import decisions, person_inputs, persons, switch
from enrich_pipeline.waterfall import in_doubt

from ..sandbox import people
from .model_drive import AN_INDEX, CAPS
from .model_records import UNSETTLED, Call
from .model_tables import MEMBERS
from .model_waiting import Waiting


class People(Waiting):
    """What happens to people, and what people do."""

    # ---- nights ----------------------------------------------------------------------------------

    @precondition(lambda self: not self.senders)
    @rule(day=st.integers(0, 2))
    def night(self, day: int) -> None:
        self._count("night planned again" if day in self.nights.days else "night planned")
        self._plan(day)

    def _plan(self, day: int) -> None:
        self.tables.plan(self._partition(day).day)
        self.nights.plan(day)
        self.tables.open(self._partition(day).day)
        self.nights.open(day)
        self.agree()

    # ---- people and operators --------------------------------------------------------------------

    @rule(which=st.integers(0, MEMBERS), consents=st.booleans())
    def consent(self, which: int, consents: bool) -> None:
        contact = self.contacts[which]
        if contact.consents == consents:
            return
        self._count("consent given" if consents else "consent withdrawn")
        contact.consents = consents
        with self.tables.engine.begin() as conn:
            conn.execute(
                text("""
                    update enrichment.contacts set personal_email_consent = :consents
                    where contact_id = :id
                """),
                {"id": contact.contact_id, "consents": consents},
            )
            person_inputs.refresh_inputs(conn, [contact.person.person_id])
        person = contact.person
        person.consents = any(c.consents for c in self.contacts if c.person is person)
        self.agree()

    @precondition(lambda self: not any(c.person.is_blocked for c in self.contacts))
    @rule(which=st.integers(0, MEMBERS))
    def suppress(self, which: int) -> None:
        """One of them at most: with more there would soon be nobody left to ask for."""
        contact = self.contacts[which]
        if contact.person.is_blocked:
            return
        self._count("suppressed")
        with self.tables.engine.begin() as conn:
            decisions.suppress(conn, [("contact", contact.contact_id)], "asked to be left alone")
            person_inputs.refresh_inputs(conn, [contact.person.person_id])
        contact.person.is_blocked = True
        self.agree()

    @precondition(lambda self: self._are_apart())
    @rule()
    def unite(self) -> None:
        self._unite()

    def _are_apart(self) -> bool:
        return self.contacts[-1].person is not self.contacts[-2].person

    def _unite(self) -> None:
        """A contact is completed: two persons turn out to be one."""
        survivor, other = self.contacts[-2].person, self.contacts[-1].person
        self._count("persons merged")
        slug = people.profile(MEMBERS - 1).rpartition("/")[2]
        is_busy = any(x.person is other and x.state in UNSETTLED for x in self.books.lines())
        self._count("merged in flight", is_busy)
        with self.tables.engine.begin() as conn:
            conn.execute(
                text("update enrichment.contacts set linkedin_slug = :slug where contact_id = :id"),
                {"slug": slug, "id": self.contacts[-2].contact_id},
            )
            conn.execute(
                text("insert into enrichment.contact_identifiers values ('linkedin', :slug, :id)"),
                {"slug": slug, "id": self.contacts[-2].contact_id},
            )
            resolved = persons.resolve(conn, [self.contacts[-2].contact_id])
            person_inputs.refresh_inputs(conn, resolved.person_ids)
        self.nights.unite(survivor, other)
        self.agree()

    @rule(caps=st.sampled_from((*CAPS, *("plenty",) * 6)))
    def change_budgets(self, caps: str) -> None:
        if caps != self.caps:
            self._count("budget changed")
            self.caps = caps
            self._set_caps()

    @rule(is_paused=st.sampled_from((True, *(False,) * 5)))
    def pause(self, is_paused: bool) -> None:
        if is_paused == self.choices.is_paused:
            return
        self._count("paused" if is_paused else "resumed")
        self.choices.is_paused = is_paused
        with self.tables.engine.begin() as conn:
            if is_paused:
                switch.pause(conn, "")
            else:
                switch.resume(conn)

    @precondition(lambda self: self._resolvable())
    @rule(which=AN_INDEX)
    def resolve(self, which: int) -> None:
        waiting = self._resolvable()
        self._resolve(waiting[which % len(waiting)])

    def _resolve(self, call: Call) -> None:
        """An operator finds out what the provider really charged."""
        known = sum(x.cost for x in call.lines) + call.unassigned
        room = sum(x.hold for x in call.lines if x.state == "in_doubt")
        amount = min(room, self.providers.by_call[call.call_id] - known)
        what = "charged" if amount > 0 else "not_charged"
        self._count(f"resolved {what.replace('_', ' ')}")
        in_doubt.resolve(
            self.ctx, call.call_id, what, "the invoice",  # type: ignore[arg-type]
            amount if amount > 0 else None,
        )  # fmt: skip
        self.books.resolve(call, is_charged=amount > 0, amount=max(0, amount))
        self.agree()
