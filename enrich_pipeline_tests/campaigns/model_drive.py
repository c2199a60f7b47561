"""What the machine of the model campaign stands on: people, processes, both sides, comparison.

The steps are in the classes that build on this one: `model_sending`, `model_waiting`,
`model_people` and `model_machine`. Time passes by moving the clocks of calls; nothing waits.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import Connection, text

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.providers.http import ExchangeError, ReplyLost
from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse
from enrich_pipeline.store import calls, invariants
from enrich_pipeline.store.locks import DRAIN
from enrich_pipeline.waterfall.context import Context, Partition, run_key
from enrich_pipeline.waterfall.reserve import Claimed

from ..sandbox import people
from ..support.sandbox import PROVIDERS
from .model_books import Books
from .model_choices import Choices
from .model_nights import Contact, Nights
from .model_providers import Providers
from .model_records import Call, Divergence, Person
from .model_said import FATES, MICRO, OUTCOMES, PRICES, Delivery, Said, human
from .model_senders import Sender, Wire
from .model_tables import CONSENTING, MEMBERS, Tables

CAPS: Mapping[str, tuple[int, int | None, int]] = {
    "plenty": (1000, None, 1000),
    "small night": (13, None, 1000),
    "small provider": (1000, 3, 1000),
    "small person": (1000, None, 11),
}
"""Budgets in credits: night, each provider, each person."""

A_PROVIDER = st.sampled_from(PROVIDERS)
SOME_FATES = st.lists(st.sampled_from(FATES), min_size=4, max_size=4)
AN_OUTCOME = st.sampled_from((*OUTCOMES, *("replies",) * 8))
AN_INDEX = st.integers(0, 7)


class Drive(RuleBasedStateMachine):
    """`tables` and `counts` are set by the campaign, for all examples."""

    tables: ClassVar[Tables]
    counts: ClassVar[Counter[str]]
    keeper: ClassVar[Connection]
    _contexts: ClassVar[dict[tuple[str, str], Context]] = {}
    _now: ClassVar["Drive"]

    def __init__(self) -> None:
        super().__init__()
        Drive._now = self
        self.counts["examples"] += 1
        self.tables.reset()
        self.providers = Providers()
        self.senders: list[Sender] = []
        self.queue: list[tuple[str, Claimed]] = []
        self.requests: dict[int, HttpRequest] = {}
        self.said: dict[int, Said] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.delivered: dict[int, str] = {}
        self.runs = self.sweeps = 0
        self.caps = "plenty"
        self.is_over = False
        self._asked: list[tuple[int, str, Said | None]] = []
        self._reread: tuple[str, Sequence[str]] = ("replies", FATES[:1])
        self._polls_fail = False
        self._polling = 0
        self._meet_people()
        self._new_run()

    def _meet_people(self) -> None:
        everything = {"email", "linkedin", "company_domain", "lance_id"}
        members = []
        for number in range(MEMBERS):
            known = everything - ({"linkedin"} if number == MEMBERS - 1 else set())
            members.append(Person(number + 1, set(known), number in CONSENTING))
        members.append(Person(MEMBERS + 1, {"linkedin", "company_domain"}, True))
        self.books = Books(members)
        self.choices = Choices(self.books)
        self.contacts = [
            Contact(f"c{number:04d}", members[number], number in CONSENTING)
            for number in range(MEMBERS)
        ]
        self.contacts.append(Contact("d0003", members[-1], True))
        self.nights = Nights(self.books, self.choices, self.contacts)
        self._set_caps()
        self.nights.plan(0)
        self.nights.open(0)

    def _set_caps(self) -> None:
        night, own, person = CAPS[self.caps]
        self.choices.night_cap, self.choices.person_cap = night * MICRO, person * MICRO
        self.choices.provider_cap = None if own is None else own * MICRO

    # ---- processes -------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return f"run-{self.runs}"

    def _new_run(self) -> None:
        self.runs += 1
        self._lock("pg_advisory_lock")

    def _lock(self, function: str) -> None:
        self.keeper.execute(
            text(f"select {function}(:class, :key)"), {"class": DRAIN, "key": run_key(self.run_id)}
        )
        self.keeper.commit()

    def _context(self, run_id: str) -> Context:
        key = (self.caps, run_id)
        if key not in self._contexts:
            settings = self.tables.settings

            def wire(provider: str) -> Wire:
                return Wire(lambda request: Drive._now.ask(provider, request))

            self._contexts[key] = Context(
                self.tables.engine,
                _with_caps(settings.policy, *CAPS[self.caps]),
                settings.providers,
                {name: wire(name) for name in settings.providers},  # type: ignore[misc]
                settings.webhook_public_url,
                run_id,
            )
        return self._contexts[key]

    @property
    def ctx(self) -> Context:
        return self._context(self.run_id)

    def _sweeper(self) -> Context:
        self.sweeps += 1
        return self._context(f"sweep-{self.sweeps % 2}")

    def _partition(self, day: int) -> Partition:
        return Partition(datetime.now(UTC).date() - timedelta(days=day), 0)

    # ---- asking outside of senders ---------------------------------------------------------------

    def ask(self, provider: str, request: HttpRequest) -> HttpResponse:
        """What a sweep or a poll hears."""
        known = self.books.calls.values()
        again = [c for c in known if c.provider == provider and self.requests[c.call_id] == request]
        if again:
            call = again[-1]
            outcome, fates = self._reread
            response, said = self._receive(call, outcome, fates)
            self._asked.append((call.call_id, "reread", said))
            if isinstance(response, ExchangeError):
                raise response
            return response
        if request.method == "GET" and "/entities/" in request.path:
            call_id = self._polling
        else:
            call_id = self._polling = self._who_is_polled(provider, request)
            self._asked.append(
                (call_id, "poll", None if self._polls_fail else self.providers.polled(call_id))
            )
            if self._polls_fail:
                raise ReplyLost("read_timeout")
        return self.providers.poll(call_id, provider, request)

    def _who_is_polled(self, provider: str, request: HttpRequest) -> int:
        if provider != "lance":
            return int(request.path.rpartition("/job")[2])
        assert isinstance(request.json, dict)
        tasks = request.json["tasks"]
        for call in reversed(self.books.calls.values()):
            # Whoever was answered is not asked about again.
            ids = [
                people.lance(min(line.person.person_id, MEMBERS) - 1)
                for line in call.lines
                if line.state in ("held", "in_doubt")
            ]
            wanted = [task["entityId"] for task in tasks if task["field"] == call.group]
            is_polled = call.provider == "lance" and call.call_id in self.providers.jobs
            if is_polled and wanted and ids == wanted:
                return call.call_id
        raise Divergence(f"a poll of nobody's call: {len(tasks)} tasks")

    def _receive(
        self, call: Call, outcome: str, fates: Sequence[str]
    ) -> tuple[HttpResponse | ExchangeError, Said]:
        items = [
            (key, frozenset(x.product for x in call.lines if x.key == key)) for key in call.keys
        ]
        token = self.ctx.token(call.call_id) if call.has_token else None
        return self.providers.receive(
            call.call_id,
            call.provider,
            call.group,
            items,
            token,
            outcome,
            fates,
        )

    # ---- looking ---------------------------------------------------------------------------------

    def _count(self, name: str, times: int = 1) -> None:
        self.counts[name] += times

    def _new_calls(self, seen: Mapping[str, Any]) -> dict[int, dict[str, set[str]]]:
        fresh: dict[int, dict[str, set[str]]] = {}
        for call_id, key, product, *_ in seen["lines"] or ():
            if call_id not in self.books.calls:
                fresh.setdefault(call_id, {}).setdefault(key, set()).add(product)
        return fresh

    def _remember_requests(self, ctx: Context, call_ids: Iterable[int]) -> None:
        """What was reserved, as its adapter writes it: by that a repetition is told."""
        with self.tables.engine.connect() as conn:
            for call_id in call_ids:
                stored = calls.load(conn, call_id, lock=False)
                api = ctx.providers[stored.provider]
                self.requests[call_id] = api.request(ctx.wire_call(stored))

    def agree(self) -> None:
        """Holds the tables against the model, and the books against the meter."""
        self._count("comparisons")
        seen = self.tables.seen()
        if seen["day"] != str(datetime.now(UTC).date()):
            self.is_over = True
        model = self._told()
        for what, said in model.items():
            found = _sorted(seen[what])
            if found != said:
                missing = [x for x in said if x not in found]
                surplus = [x for x in found if x not in said]
                raise Divergence(f"{what}: the tables say {surplus}, the model {missing}")
        for provider in PROVIDERS:
            books = self.books.accounts(provider)
            unsure = books["held"] + books["in_doubt"] + books["written_off"]
            charged, spent = self.providers.charged[provider], books["spent"]
            most = spent + unsure + self.providers.extra[provider]
            if not spent - self._unknowable(provider) <= charged <= most:
                raise Divergence(
                    f"{provider}: charged {charged}, spent {spent}, open or written off {unsure}"
                )

    def _unknowable(self, provider: str) -> int:
        """What a re-read may book a second time.

        It takes for its own what nobody else paid for, and of an answer that was lost for good
        nobody knows that it was about the same human as another person. What was found out to be
        charged for a call in doubt is shared among all persons of it.
        """
        return sum(
            PRICES[provider][line.product] * MICRO
            for line in self.books.lines()
            if provider == "prospeo" == line.provider
            and line.verdict == "answer_lost"
            and human(line.key) == MEMBERS - 1
        )

    def _told(self) -> dict[str, list[Any]]:
        books = self.books
        accounts = []
        for provider in PROVIDERS:
            for kind, balance in books.accounts(provider).items():
                if balance:
                    accounts.append([provider, kind, balance])
        return {
            "calls": _sorted(
                [str(c.call_id), c.provider, c.state, c.sends] for c in books.calls.values()
            ),
            "lines": _sorted(
                [x.call_id, x.key, x.product, x.state, x.cost, x.verdict] for x in books.lines()
            ),
            "attempts": _sorted(
                [x.call_id, x.key, x.product, field, outcome]
                for x in books.lines()
                for field, outcome in x.outcomes.items()
            ),
            "fields": _sorted(
                [
                    q.person.person_id,
                    q.field,
                    q.state,
                    q.next_provider if q.is_live else None,
                    q.result,
                ]
                for q in books.quests
            ),
            "accounts": _sorted(accounts),
            "inbox": _sorted([str(i), state] for i, state in self.delivered.items()),
            "unread": [[sum(len(c.unread) for c in books.calls.values())]],
            "waiting": _sorted(
                [row.day, row.contact.contact_id, row.field]
                for row in self.nights.rows
                if row.state == "waiting"
            ),
            "budgets": self._budgets(),
        }

    def _budgets(self) -> list[Any]:
        rows = []
        for key, members in {"all": PROVIDERS, **{p: (p,) for p in PROVIDERS}}.items():
            b = self.books.budget(members)
            if any(b.values()):
                rows.append([key, b["held"], b["in_doubt"], b["spent"], b["overage"]])
        return _sorted(rows)

    def teardown(self) -> None:
        for sender in self.senders:
            sender.kill()
        self.keeper.execute(text("select pg_advisory_unlock_all()"))
        self.keeper.commit()
        if self.is_over or sys.exc_info()[0] is not None:
            return
        with self.tables.engine.connect() as conn:
            broken = invariants.violations(conn)
            broken += [("paid twice", d) for d in invariants.paid_twice(conn, 90)]
        if broken:
            raise Divergence(f"invariants: {broken}")

    # ---- who is where ----------------------------------------------------------------------------

    def _at(self, *places: str) -> list[Sender]:
        return [s for s in self.senders if s.place in places]

    def _calls(self, *states: str) -> list[Call]:
        return [c for c in self.books.calls.values() if c.state in states]

    def _open_jobs(self) -> list[Any]:
        return [job for job in self.providers.jobs.values() if job.open_keys]

    def _repeatable(self) -> list[Call]:
        return [c for c in self._calls("in_doubt") if c.provider in ("prospeo", "lance")]

    def _resolvable(self) -> list[Call]:
        flying = {s.claimed.call_id for s in self._at("in_flight")}
        return [
            c
            for c in self._calls("in_doubt")
            if c.call_id not in flying
            and self.providers.is_done_with(c.call_id)
            and (c.sends < 2 or c.is_lease_over)
        ]

    def _calm(self, _: float) -> None:
        """Whoever would have to wait finds the pause over."""
        self.tables.run("delete from enrichment.rate_pauses")

    def _clean_up(self) -> None:
        self.senders = [s for s in self.senders if s.place != "over"]


def _with_caps(policy: Policy, night: int, own: int | None, person: int) -> Policy:
    providers = {
        name: terms.model_copy(update={"budget_credits": own})
        for name, terms in policy.providers.items()
    }
    budget = policy.budget.model_copy(update={"night_usd": night, "person_usd": person})
    return policy.model_copy(update={"budget": budget, "providers": providers})


def _sorted(rows: Any) -> list[Any]:
    if isinstance(rows, dict):
        rows = [[k, *(v if isinstance(v, list) else [v])] for k, v in rows.items()]
    elif isinstance(rows, int):
        rows = [[rows]]
    return sorted((list(row) for row in rows or ()), key=repr)
