"""The pure rules under the engine: chain, batching, division of costs, double entry, decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_pipeline.domain.batching import call_sizes
from enrich_pipeline.domain.chain import op_chain, op_names
from enrich_pipeline.domain.credit import divide, usd_micro
from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.policy import ReusePolicy
from enrich_pipeline.domain.posting import (
    SIDES,
    Account,
    Entry,
    EntryType,
    LineChange,
    LineState,
    budget_move,
    entries,
)
from enrich_pipeline.providers.protocol import (
    Datapoint,
    FoundValue,
    Offer,
    PersonInputs,
    Verdict,
)
from enrich_pipeline.store.work import KnownPerson, Memory, OpenField
from enrich_pipeline.waterfall.decide import MAX_FAILURES, Decision, Situation, decide
from enrich_pipeline.waterfall.findings import is_news

from ..support.contacts import policy

# ---------------------------------------------------------------------------------- news

KNOWN = PersonInputs(
    1,
    {
        Datapoint.EMAIL: "jane@acme.com",
        Datapoint.LINKEDIN: "jane",
        Datapoint.COMPANY_NAME: "Acme",
        Datapoint.COMPANY_DOMAIN: "acme.com",
    },
)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, False),
        ({Attribute.PHONE: "+493012345"}, False),
        ({Attribute.WORK_EMAIL: "jane@acme.com"}, False),
        ({Attribute.WORK_EMAIL: "jane@other.com"}, True),
        ({Attribute.LINKEDIN_URL: "https://www.linkedin.com/in/jane"}, False),
        ({Attribute.LINKEDIN_URL: "https://www.linkedin.com/in/jane-2"}, True),
        ({Attribute.COMPANY_NAME: "Acme", Attribute.COMPANY_DOMAIN: "acme.com"}, False),
        ({Attribute.COMPANY_NAME: "ACME", Attribute.COMPANY_DOMAIN: "acme.com"}, True),
        ({Attribute.COMPANY_DOMAIN: "acme.com"}, True),
        ({Attribute.COMPANY_NAME: "Acme"}, True),
    ],
)
def test_only_what_differs_from_what_is_known_is_news(
    told: dict[Attribute, str], expected: bool
) -> None:
    values = [FoundValue(a, value, ValueStatus.UNVERIFIED) for a, value in told.items()]
    assert is_news(KNOWN, values) is expected


def test_two_values_of_one_kind_are_news() -> None:
    values = [
        FoundValue(Attribute.WORK_EMAIL, value, ValueStatus.VERIFIED)
        for value in ("jane@acme.com", "jane@other.com")
    ]
    assert is_news(KNOWN, values)


# ---------------------------------------------------------------------------------- chain

PROVIDERS = ("prospeo", "agntdata", "pronto", "lance", "apollo")


def is_subsequence(order: tuple[str, ...], chain: tuple[str, ...]) -> bool:
    rest = iter(chain)
    return all(provider in rest for provider in order)


def test_the_default_waterfalls_give_the_documented_ops() -> None:
    defaults = policy()
    chain = op_chain({f: defaults.waterfall(f) for f in Field}, list(defaults.providers))
    assert chain == ("prospeo", "agntdata", "pronto", "agntdata", "lance", "pronto", "apollo")
    assert op_names(chain) == (
        "try_prospeo", "try_agntdata", "try_pronto", "try_agntdata_2", "try_lance", "try_pronto_2",
        "try_apollo",
    )  # fmt: skip


orders = st.lists(
    st.permutations(PROVIDERS).flatmap(
        lambda order: st.integers(0, 5).map(lambda n: tuple(order[:n]))
    ),
    max_size=4,
)


@given(orders)
def test_every_waterfall_finds_its_providers_in_order_along_the_chain(
    waterfalls: list[tuple[str, ...]],
) -> None:
    chain = op_chain({str(i): order for i, order in enumerate(waterfalls)}, PROVIDERS)
    assert all(is_subsequence(order, chain) for order in waterfalls)
    assert len(chain) <= sum(len(order) for order in waterfalls)
    assert len(chain) >= max((len(order) for order in waterfalls), default=0)
    assert all(a != b for a, b in pairwise(chain))
    for index in range(len(chain)):
        shorter = chain[:index] + chain[index + 1 :]
        assert not all(is_subsequence(order, shorter) for order in waterfalls)


# ---------------------------------------------------------------------------------- calls


@given(st.integers(0, 1200), st.integers(1, 3), st.integers(6, 100), st.booleans())
def test_calls_are_the_fewest_possible_within_the_bounds(
    records: int, minimum: int, maximum: int, single: bool
) -> None:
    sizes = call_sizes(records, minimum, maximum, single=single)
    if records < minimum and not single:
        assert sizes == ()
        return
    assert sum(sizes) == records
    assert all(size <= maximum for size in sizes)
    if records >= minimum:
        assert all(size >= minimum for size in sizes)
        assert len(sizes) == -(-records // maximum)
    else:
        assert set(sizes) <= {1}


def test_a_rest_of_one_is_filled_up_where_two_are_the_minimum() -> None:
    assert call_sizes(101, 2, 100, single=True) == (99, 2)
    assert call_sizes(1, 2, 100, single=True) == (1,)
    assert call_sizes(1, 2, 100, single=False) == ()


# ---------------------------------------------------------------------------------- money


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**8), max_size=100))
def test_divided_amounts_sum_to_the_whole_and_follow_the_weights(
    total: int, weights: list[int]
) -> None:
    parts = divide(total, weights)
    assert len(parts) == len(weights)
    if not sum(weights):
        assert not any(parts)
        return
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) <= 1 + total * 1e-12
        assert weight or not part


class Books:
    """A call's ledger, kept by the entries alone."""

    def __init__(self) -> None:
        self.balances = dict.fromkeys(Account, 0)

    def book(self, parts: tuple[Entry, ...]) -> None:
        for part in parts:
            assert part.amount_micro > 0
            assert part.amount_usd_micro >= 0
            debit, credit = SIDES[part.entry_type]
            self.balances[debit] += part.amount_micro
            self.balances[credit] -= part.amount_micro


RATE = 30_000
ENDS = {
    LineState.HELD: (LineState.POSTED, LineState.RELEASED, LineState.IN_DOUBT),
    LineState.IN_DOUBT: (LineState.POSTED, LineState.RELEASED, LineState.WRITTEN_OFF),
    LineState.WRITTEN_OFF: (LineState.POSTED, LineState.RELEASED),
}


@given(st.data())
def test_a_calls_hold_is_always_posted_released_doubted_written_off_or_still_held(
    data: st.DataObject,
) -> None:
    holds = data.draw(st.lists(st.integers(0, 10**8), min_size=1, max_size=6))
    dollars = [usd_micro(hold, RATE) for hold in holds]
    states = dict.fromkeys(range(len(holds)), LineState.HELD)
    books = Books()
    if sum(holds):
        books.book((Entry(EntryType.HOLD, sum(holds), sum(dollars)),))
    paid = 0
    night = [sum(dollars), 0, 0]
    for _ in range(data.draw(st.integers(1, 5))):
        live = [i for i, state in states.items() if state in ENDS]
        chosen = data.draw(st.lists(st.sampled_from(live), unique=True)) if live else []
        changes = []
        for index in chosen:
            after = data.draw(st.sampled_from(ENDS[states[index]]))
            cost = data.draw(st.integers(0, 2 * 10**8)) if after is LineState.POSTED else 0
            changes.append(
                LineChange(
                    index, index, states[index], after, holds[index], dollars[index], cost,
                    cost * RATE // 10**6,
                )
            )  # fmt: skip
            states[index] = after
            paid += cost
        unassigned = data.draw(st.sampled_from([0, 0, 0, 1, 5_000_000]))
        paid += unassigned
        parts = entries(changes, unassigned, RATE)
        books.book(parts)
        move = budget_move(parts, usd=True)
        for position, amount in enumerate((move.held, move.in_doubt, move.spent)):
            night[position] += amount
        balances = books.balances
        by_state = {
            state: sum(holds[i] for i, s in states.items() if s is state) for state in LineState
        }
        assert sum(balances.values()) == 0
        assert balances[Account.HELD] == by_state[LineState.HELD]
        assert balances[Account.IN_DOUBT] == by_state[LineState.IN_DOUBT]
        assert balances[Account.WRITTEN_OFF] == by_state[LineState.WRITTEN_OFF]
        assert balances[Account.SPENT] == paid
        for place, state in enumerate((LineState.HELD, LineState.IN_DOUBT)):
            assert night[place] == sum(dollars[i] for i, s in states.items() if s is state)
        assert min(night) >= 0
        assert sum(night) <= sum(dollars)


def test_a_cost_beyond_the_holds_that_end_is_an_overage() -> None:
    change = LineChange(1, 1, LineState.HELD, LineState.POSTED, 100, 3, 160, 5)
    assert {e.entry_type: e.amount_micro for e in entries([change], 0, RATE)} == {
        EntryType.POST: 100,
        EntryType.OVERAGE: 60,
    }


def test_a_cost_that_no_line_explains_is_taken_from_the_holds_that_end() -> None:
    change = LineChange(1, 1, LineState.HELD, LineState.POSTED, 100, 3, 40, 1)
    assert {e.entry_type: e.amount_micro for e in entries([change], 50, RATE)} == {
        EntryType.POST: 90,
        EntryType.RELEASE: 10,
    }


# ---------------------------------------------------------------------------------- decisions

NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
EMAIL = frozenset({Datapoint.EMAIL})
MATCH = Offer("match", (Field.WORK_EMAIL, Field.PROFILE), (EMAIL,), (Datapoint.EMAIL,))
MOBILE = Offer("mobile", (Field.PHONE,), (EMAIL,), (Datapoint.EMAIL,), brings=("match",))
WORK = OpenField(1, 7, Field.WORK_EMAIL, 1, 1)
PROFILE = OpenField(2, 7, Field.PROFILE, 1, 1)
PHONE = OpenField(3, 7, Field.PHONE, 1, 1)
PERSONAL = OpenField(4, 7, Field.PERSONAL_EMAIL, 1, 1)


def person(*, consent: bool = False, blocked: bool = False, email: bool = True) -> KnownPerson:
    datapoints = {Datapoint.EMAIL: "a@copperfox0.com"} if email else {}
    identity = frozenset({"email:1"} if email else ())
    return KnownPerson(PersonInputs(7, datapoints, consent), identity, blocked)


def situation(who: KnownPerson | None = None, *offers: Offer, **memory: Memory) -> Situation:
    return Situation(
        person=who or person(),
        offers=offers or (MATCH, MOBILE),
        memory={(product, ""): line for product, line in memory.items()},
        on_their_way=frozenset(),
        unavailable={},
        move_on=False,
        why_not_sold={},
        reuse=ReusePolicy(found_days=90, not_found_days=60),
        now=NOW,
    )


def memory(
    state: str = "posted",
    verdict: str | None = None,
    *,
    days: float = 1,
    sent: frozenset[str] = frozenset({"email:1"}),
    failures: int = 0,
) -> Memory:
    then = NOW - timedelta(days=days)
    return Memory(5, state, verdict, then, then, sent, failures)


def bought(decision: Decision) -> dict[str, list[Field]]:
    return {p: [f.field for f in asked] for p, (_, asked) in decision.buy.items()}


def reasons(decision: Decision) -> list[tuple[str, Field, str]]:
    return [("skip", f.field, why) for f, why in decision.skip] + [
        ("wait", f.field, why) for f, why in decision.wait
    ]


def test_one_product_is_bought_once_for_all_fields_that_it_answers() -> None:
    assert bought(decide([WORK, PROFILE], situation())) == {
        "match": [Field.WORK_EMAIL, Field.PROFILE]
    }


def test_what_a_product_brings_is_bought_with_it() -> None:
    assert bought(decide([PHONE], situation())) == {"mobile": [Field.PHONE], "match": []}


def test_what_would_be_paid_a_second_time_is_not_brought_again() -> None:
    found = memory(verdict=Verdict.FOUND)
    again = decide([PHONE], situation(match=found))
    assert reasons(again) == [("skip", Field.PHONE, "would_pay_match_twice")]
    free = replace(MATCH, repeat_is_charged=False)
    assert bought(decide([PHONE], situation(None, free, MOBILE, match=found))) == {
        "mobile": [Field.PHONE]
    }


@pytest.mark.parametrize(
    ("line", "is_brought"),
    [
        (memory(verdict=Verdict.FOUND, days=89), False),
        (memory(verdict=Verdict.FOUND, days=91), True),
        (memory(verdict=Verdict.NOT_FOUND), True),
        (memory(verdict="other_person"), True),
        (memory(verdict=Verdict.INVALID_INPUT), True),
        (memory(verdict="answer_lost"), True),
        (memory("released", Verdict.FAILED, failures=MAX_FAILURES), True),
        # Its answer may still come, and would be paid beside the new one.
        (memory("written_off", days=59), False),
        (memory("written_off", days=61), True),
    ],
)
def test_a_match_that_costs_once_is_brought_unless_its_answer_is_there_or_may_come(
    line: Memory, is_brought: bool
) -> None:
    once = replace(MATCH, repeat_is_charged=False)
    decision = decide([PHONE], situation(None, once, MOBILE, match=line))
    assert bought(decision) == {"mobile": [Field.PHONE]} | ({"match": []} if is_brought else {})


@pytest.mark.parametrize("verdict", [Verdict.NOT_FOUND, "other_person", "answer_lost"])
def test_a_match_that_costs_again_is_not_brought_after_a_miss(verdict: str) -> None:
    decision = decide([PHONE], situation(match=memory(verdict=verdict)))
    assert reasons(decision) == [("skip", Field.PHONE, "would_pay_match_twice")]


def test_a_match_waits_while_a_field_that_will_bring_it_is_still_on_its_way() -> None:
    at = replace(situation(), on_their_way=frozenset({Field.PHONE}))
    assert reasons(decide([WORK], at)) == [("wait", Field.WORK_EMAIL, "sibling_pending")]
    assert set(bought(decide([WORK, PHONE], at))) == {"match", "mobile"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (memory("held"), "wait asked_already"),
        (memory("in_doubt", days=200), "wait asked_already"),
        (memory(verdict=Verdict.FOUND, days=89), "serve"),
        (memory(verdict=Verdict.FOUND, days=91), "buy"),
        (memory(verdict=Verdict.NOT_FOUND, days=59), "skip known_miss"),
        (memory(verdict=Verdict.NOT_FOUND, days=61), "buy"),
        (memory(verdict=Verdict.NOT_FOUND, sent=frozenset()), "buy"),
        (memory(verdict="other_person"), "skip other_person"),
        (memory(verdict=Verdict.INVALID_INPUT), "skip invalid_input"),
        (memory(verdict=Verdict.FILTERED), "skip filtered"),
        (memory("written_off", days=59), "skip written_off"),
        (memory("written_off", days=61), "buy"),
        (memory("released", Verdict.FAILED, days=0.1, failures=1), "skip failed_tonight"),
        (memory("released", Verdict.FAILED, days=1, failures=1), "buy"),
        (memory("released", Verdict.FAILED, failures=MAX_FAILURES), "skip failed_before"),
        (memory(verdict="answer_lost"), "skip answer_lost"),
        (memory(verdict="unknown_verdict"), "buy"),
    ],
)
def test_what_is_remembered_decides_whether_a_product_is_bought_again(
    line: Memory, expected: str
) -> None:
    decision = decide([WORK], situation(match=line))
    said = [f"{how} {why}" for how, _, why in reasons(decision)]
    said += ["buy"] * bool(decision.buy) + ["serve"] * bool(decision.serve)
    assert said == [expected]


def test_a_blocked_person_is_asked_for_nowhere() -> None:
    decision = decide([WORK, PHONE], situation(person(blocked=True)))
    assert decision.expire == [WORK, PHONE]
    assert not decision.buy


def test_personal_email_is_asked_for_only_with_consent() -> None:
    offer = Offer("personal", (Field.PERSONAL_EMAIL,), (EMAIL,), (Datapoint.EMAIL,))
    refused = decide([PERSONAL], situation(person(), offer))
    assert reasons(refused) == [("skip", Field.PERSONAL_EMAIL, "no_consent")]
    assert bought(decide([PERSONAL], situation(person(consent=True), offer))) == {
        "personal": [Field.PERSONAL_EMAIL]
    }


def test_a_person_without_the_required_datapoints_is_passed_by() -> None:
    decision = decide([WORK], situation(person(email=False)))
    assert reasons(decision) == [("skip", Field.WORK_EMAIL, "not_eligible")]


def test_at_an_unavailable_provider_a_field_waits_or_moves_on_as_configured() -> None:
    at = replace(situation(), unavailable={"match": "no_credits"})
    assert reasons(decide([WORK], at)) == [("wait", Field.WORK_EMAIL, "unavailable:no_credits")]
    assert reasons(decide([WORK], replace(at, move_on=True))) == [
        ("skip", Field.WORK_EMAIL, "unavailable:no_credits")
    ]


def test_a_known_answer_is_served_even_while_its_provider_is_unavailable() -> None:
    at = situation(match=memory(verdict=Verdict.FOUND))
    decision = decide([WORK], replace(at, unavailable={"match": "no_credits"}))
    assert decision.serve == [(WORK, 5)]


@given(
    st.sets(st.sampled_from([WORK, PROFILE, PHONE, PERSONAL]), min_size=1),
    st.sampled_from(["posted", "held", "in_doubt", "written_off", "released"]),
    st.sampled_from([None, *(v.value for v in Verdict), "other_person", "unknown_verdict"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([frozenset[Field](), frozenset({Field.PHONE}), frozenset({Field.PROFILE})]),
)
def test_no_field_is_ever_left_without_a_decision(
    fields: set[OpenField],
    state: str,
    verdict: str | None,
    consent: bool,
    blocked: bool,
    on_their_way: frozenset[Field],
) -> None:
    at = situation(person(consent=consent, blocked=blocked), match=memory(state, verdict))
    decision = decide(
        sorted(fields, key=lambda f: f.enrichment_id), replace(at, on_their_way=on_their_way)
    )
    decided = [f for _, asked in decision.buy.values() for f in asked]
    decided += [f for f, _ in decision.serve] + [f for f, _ in decision.skip]
    decided += [f for f, _ in decision.wait] + decision.expire
    assert sorted(f.enrichment_id for f in decided) == sorted(f.enrichment_id for f in fields)
