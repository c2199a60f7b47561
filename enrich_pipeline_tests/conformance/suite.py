"""What every provider must keep to, whatever its API: checks on the adapter alone, no network.

A provider is brought as a `Case`: its class and a few bodies of its API. A new provider is done
when `CHECKS` hold for its case. What one API means by a body is tested beside its adapter.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_pipeline.domain.enrichment import ATTRIBUTES, Field, ValueStatus
from enrich_pipeline.providers.http import ProviderClient, encode
from enrich_pipeline.providers.protocol import (
    Answer,
    Call,
    Datapoint,
    Disposition,
    HttpRequest,
    HttpResponse,
    Item,
    Offer,
    Options,
    PersonInputs,
    Provider,
    Reply,
    Unavailable,
    Verdict,
)
from enrich_pipeline.providers.registry import declaration_problems

KEY = "canary-api-key-7Q"
WEBHOOK = "https://us.example/webhooks/x/token-1"
JOB = "5f0c6a52-7a64-4c3f-9c51-0d2b8f1f9f10"

Play = Callable[[HttpRequest], object]
"""The provider's part in a poll: the JSON body that answers a request."""


@dataclass(frozen=True)
class Case:
    """A provider under test. `reply`, `delivery` and `play` give JSON as its API would.

    `errors`: (status, body, what it means), as far as the API documents them.
    """

    cls: type[Provider]
    reply: Callable[[Call], object]
    errors: Sequence[tuple[int, object, Disposition]]
    settings: Mapping[str, object] = field(default_factory=dict)
    delivery: Callable[[Call], object] | None = None
    play: Callable[[Call], Play] | None = None

    @property
    def provider(self) -> Provider:
        options: Options = self.cls.options_model.model_validate(self.settings)
        return self.cls(options)


def person(number: int) -> PersonInputs:
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    known = {
        Datapoint.FIRST_NAME: f"Canary{letters}",
        Datapoint.LAST_NAME: f"Person{letters}",
        Datapoint.FULL_NAME: f"Canary{letters} Person{letters}",
        Datapoint.EMAIL: f"canary.{number}@canary-example.com",
        Datapoint.LINKEDIN: f"canary-person-{number}",
        Datapoint.COMPANY_NAME: f"Canary Works {number}",
        Datapoint.COMPANY_DOMAIN: f"canary-example-{number}.com",
        Datapoint.COMPANY_LINKEDIN: f"https://www.linkedin.com/company/canary-{number}",
        Datapoint.LANCE_ID: str(UUID(int=0x550E8400E29B41D4A716446655440000 + number, version=4)),
        Datapoint.PROSPEO_ID: f"aaaf24{number:018d}",
        Datapoint.APOLLO_ID: f"64a7ff{number:018d}",
        Datapoint.COUNTRY: "FR",
    }
    return PersonInputs(number, known, personal_email_consent=True)


def call_of(group: str, offers: Sequence[Offer], size: int, first: int = 1) -> Call:
    """A call for `size` persons; the key of person 7 is `k7`."""
    products = frozenset(offer.product for offer in offers)
    items = tuple(Item(f"k{n}", person(n), products) for n in range(first, first + size))
    needs_webhook = any(offer.needs_webhook for offer in offers)
    return Call(group, items, WEBHOOK if needs_webhook else None, JOB)


def subsets(offers: Sequence[Offer]) -> Iterator[tuple[Offer, ...]]:
    return chain.from_iterable(combinations(offers, n) for n in range(1, len(offers) + 1))


def groups(case: Case) -> list[tuple[str, tuple[Offer, ...]]]:
    """Every (call options, offers) that a configuration can lead to."""
    found: dict[tuple[str, tuple[Offer, ...]], None] = {}
    for consented in (False, True):
        for chosen in subsets(case.provider.offers(consented=consented)):
            found |= dict.fromkeys(case.provider.groups(chosen))
    return list(found)


def sizes(case: Case) -> list[int]:
    limits = case.cls.limits
    least = 1 if limits.single else limits.minimum
    return sorted({least, limits.minimum, min(limits.minimum + 1, limits.maximum), limits.maximum})


def calls(case: Case, size: int | None = None, first: int = 1) -> list[Call]:
    return [
        call_of(group, offers, number, first)
        for group, offers in groups(case)
        for number in ([size] if size else sizes(case))
    ]


def as_response(body: object, status: int = 200) -> HttpResponse:
    return HttpResponse(
        status, {"content-type": "application/json"}, json.dumps(body, default=str).encode()
    )


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from strings(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from strings(member)


def lists(value: object) -> Iterator[Sequence[object]]:
    if isinstance(value, Mapping):
        for member in value.values():
            yield from lists(member)
    elif isinstance(value, list | tuple):
        yield value
        for member in value:
            yield from lists(member)


def converse(
    provider: Provider, call: Call, answer: Callable[[HttpRequest], HttpResponse]
) -> tuple[list[Sequence[HttpRequest]], list[list[HttpResponse]], Reply]:
    """Plays a whole poll; what was asked, what was answered, the reply."""
    poll = provider.poll(call)
    assert poll is not None
    asked = [next(poll)]
    answered: list[list[HttpResponse]] = []
    for _ in range(10):
        answered.append([answer(request) for request in asked[-1]])
        try:
            asked.append(poll.send(answered[-1]))
        except StopIteration as done:
            reply: Reply = done.value
            return asked, answered, reply
    raise AssertionError("a poll does not come to an end")


# Bodies that say nothing, whatever the API: the shapes that proxies, crashes and attackers send.
GARBAGE: Mapping[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "html": b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
    "plain": b"OK",
    "cut": b'{"data":{"results":[{"identifier":"k1","matched":tr',
    "null": b"null",
    "true": b"true",
    "number": b"12",
    "text": b'"k1"',
    "list": b"[]",
    "object": b"{}",
    "list of nothing": b"[null, [], {}, 0]",
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "unclosed": b"[" * 100_000,
    "wide": b"[" + b"0," * 200_000 + b"0]",
    "long text": b'"' + b"k1" * 500_000 + b'"',
    "long number": b"9" * 20_000,
    "infinity": b'{"total_cost":1e999999,"meta":{"costCents":NaN}}',
    "not UTF-8": b'{"results":"\xff\xfe"}',
    "UTF-16": '{"results":[]}'.encode("utf-16"),
    "NUL": b"\0" * 100,
    "surrogate": b'{"results":"\\ud800"}',
    "gzip": b"\x1f\x8b\x08\x00\x00\x00",
}
SAFE = re.compile(r"[a-z0-9_:+,.-]*")


def assert_discreet(reply: Reply) -> None:
    """Reasons and anomalies go to logs and tables: codes and counts, nothing of a person or key."""
    words = [reply.reason, *reply.anomalies, *(answer.reason or "" for answer in reply.answers)]
    for word in words:
        assert SAFE.fullmatch(word), f"not a code: {word!r}"
        assert len(word) <= 80
        assert "canary" not in word


def assert_sound(case: Case, call: Call, reply: Reply) -> None:
    """Whatever was read: only what was asked is answered, once, with values of the right kind."""
    assert_discreet(reply)
    fields = {
        offer.product: {a for one in offer.fields for a in ATTRIBUTES[one]}
        for group, offers in groups(case)
        if group == call.group
        for offer in offers
    }
    sent = {item.key: item for item in call.items}
    lines = [(answer.key, answer.product) for answer in reply.answers]
    assert len(set(lines)) == len(lines), "a charge line is answered twice"
    for answer in reply.answers:
        assert answer.key in sent, "an item that was not sent is answered"
        assert answer.product in sent[answer.key].products, "a product that was not asked for"
        assert {v.attribute for v in answer.values} <= fields[answer.product]
        assert all(v.value and len(v.value) <= 500 and "\0" not in v.value for v in answer.values)
        is_usable = any(v.status is not ValueStatus.INVALID for v in answer.values)
        assert (answer.verdict is Verdict.FOUND) == is_usable, "FOUND is a usable value"
        assert answer.cost_micro is None or answer.cost_micro >= 0
    assert reply.cost_micro is None or 0 <= reply.cost_micro <= 10**12
    if reply.disposition not in (Disposition.ANSWERED, Disposition.ACCEPTED):
        assert not reply.answers, "a reply that settles nothing has answers"


def declarations_are_coherent(case: Case) -> None:
    assert declaration_problems(case.cls) == []


def offers_and_groups_partition(case: Case) -> None:
    provider = case.provider
    for consented in (False, True):
        offers = provider.offers(consented=consented)
        assert offers == provider.offers(consented=consented)
        for chosen in subsets(offers):
            cut = provider.groups(chosen)
            names = [name for name, _ in cut]
            assert len(set(names)) == len(names)
            assert sorted(o.product for _, part in cut for o in part) == sorted(
                o.product for o in chosen
            )
    assert provider.groups(()) == ()


def personal_email_needs_consent(case: Case) -> None:
    provider = case.provider
    assert not any(
        Field.PERSONAL_EMAIL in offer.fields for offer in provider.offers(consented=False)
    )
    for consented in (False, True):
        sold = {f for offer in provider.offers(consented=consented) for f in offer.fields}
        for wanted in Field:
            reason = provider.unavailable(wanted, consented=consented)
            assert not (wanted in sold and reason)
            assert not (consented and reason is Unavailable.NO_CONSENT)


def requests_hold_every_person_once(case: Case) -> None:
    for call in calls(case):
        request = case.provider.request(call)
        said = list(strings(request.json))
        keys = [item.key for item in call.items]
        if any(key in said for key in keys):
            assert sorted(word for word in said if word in set(keys)) == sorted(keys)
        else:
            assert any(_is_positional(records, call) for records in lists(request.json))


def _is_positional(records: Sequence[object], call: Call) -> bool:
    return len(records) == len(call.items) and all(
        set(item.person.datapoints.values()) & set(strings([record]))
        for item, record in zip(call.items, records, strict=True)
    )


def requests_are_well_formed_and_repeatable(case: Case) -> None:
    for call in calls(case):
        request = case.provider.request(call)
        assert request.method == "POST"
        assert request.path.startswith("/")
        assert encode(request) == encode(case.provider.request(call))
        addressed = WEBHOOK in [*strings(request.json), *request.params.values()]
        assert addressed == (call.webhook_url is not None)


def keys_go_into_headers_only(case: Case) -> None:
    provider = case.provider
    headers = provider.headers(KEY)
    assert any(KEY in value for value in headers.values())
    ProviderClient(case.cls.default_base_url, headers).close()
    for call in calls(case, size=case.cls.limits.maximum):
        request = provider.request(call)
        assert KEY not in f"{request}"


def the_documented_reply_answers_everybody(case: Case) -> None:
    provider = case.provider
    for call in calls(case):
        reply = provider.read(call, as_response(case.reply(call)))
        assert_sound(case, call, reply)
        assert reply.disposition in (Disposition.ANSWERED, Disposition.ACCEPTED)
        if reply.disposition is Disposition.ANSWERED:
            assert {(a.key, a.product) for a in reply.answers} == {
                (item.key, product) for item in call.items for product in item.products
            }
        else:
            assert case.cls.uses_webhooks or case.cls.uses_polling


def a_reply_to_another_call_answers_nobody(case: Case) -> None:
    provider = case.provider
    for call in calls(case, size=case.cls.limits.minimum):
        other = Call(
            call.group,
            tuple(
                Item(f"x{item.key}", person(item.person.person_id + 500), item.products)
                for item in call.items
            ),
            call.webhook_url,
            call.job_id,
        )
        reply = provider.read(call, as_response(case.reply(other)))
        assert_discreet(reply)
        if _is_correlated(case, call):
            assert reply.answers == ()
        if case.delivery is not None and call.webhook_url:
            reply = provider.read_delivery(call, json.dumps(case.delivery(other)).encode())
            assert_discreet(reply)


def _is_correlated(case: Case, call: Call) -> bool:
    """Positional providers say nothing of whom they mean; the person check tells them apart."""
    body = json.dumps(case.reply(call), default=str)
    return call.items[0].key in body or (call.items[0].person.get(Datapoint.LANCE_ID) or "") in body


def garbage_is_never_an_answer(case: Case) -> None:
    provider = case.provider
    for call in calls(case, size=case.cls.limits.maximum)[:2]:
        for status in (200, 201, 202, 204, 302, 307, 400, 401, 402, 403, 404, 422, 500, 502, 504):
            for name, body in GARBAGE.items():
                reply = provider.read(call, HttpResponse(status, {}, body))
                where = f"{status} with {name}"
                assert reply.disposition not in (
                    Disposition.ANSWERED,
                    Disposition.ACCEPTED,
                    Disposition.NOT_READY,
                ), where
                assert reply.answers == ()
                assert reply.cost_micro is None
                assert_discreet(reply)
                if status < 400 or status >= 500 or status == 404:
                    assert reply.disposition is Disposition.IN_DOUBT, where


def a_reply_cut_at_the_cap_is_in_doubt(case: Case) -> None:
    for call in calls(case, size=case.cls.limits.minimum):
        whole = as_response(case.reply(call))
        cut = HttpResponse(200, whole.headers, whole.body, truncated=True)
        reply = case.provider.read(call, cut)
        assert (reply.disposition, reply.answers) == (Disposition.IN_DOUBT, ())


def documented_errors_mean_what_they_say(case: Case) -> None:
    for call in calls(case, size=case.cls.limits.maximum):
        for status, body, disposition in case.errors:
            reply = case.provider.read(call, as_response(body, status))
            assert reply.disposition is disposition, f"{status} {body}"
            assert reply.answers == ()
            assert_discreet(reply)


def errors_of_strangers_are_in_doubt(case: Case) -> None:
    stranger = {"title": "Service Unavailable", "type": "about:blank"}
    for call in calls(case, size=case.cls.limits.minimum):
        for status in (302, 404, 500, 502, 503, 504):
            reply = case.provider.read(call, as_response(stranger, status))
            assert reply.disposition is Disposition.IN_DOUBT, status


def deliveries_of_garbage_change_nothing(case: Case) -> None:
    if not case.cls.uses_webhooks:
        return
    for call in calls(case, size=case.cls.limits.maximum)[:2]:
        for name, body in GARBAGE.items():
            reply = case.provider.read_delivery(call, body)
            assert reply.answers == (), name
            assert reply.disposition is not Disposition.ANSWERED, name
            assert_discreet(reply)


def deliveries_answer_what_was_asked(case: Case) -> None:
    if case.delivery is None:
        assert not case.cls.uses_webhooks
        return
    answered: list[Answer] = []
    for call in calls(case):
        if call.webhook_url:
            body = json.dumps(case.delivery(call)).encode()
            reply = case.provider.read_delivery(call, body)
            assert_sound(case, call, reply)
            answered += reply.answers
            assert reply == case.provider.read_delivery(call, body)
    assert any(answer.verdict is Verdict.FOUND for answer in answered)


def polls_are_free_and_replayable(case: Case) -> None:
    if case.play is None:
        assert not case.cls.uses_polling
        return
    provider = case.provider
    found: list[Verdict] = []
    for call in calls(case):
        if provider.poll(call) is None:
            continue
        play = case.play(call)
        billable = provider.request(call)

        def answer(request: HttpRequest, play: Play = play) -> HttpResponse:
            return as_response(play(request))

        asked, answered, reply = converse(provider, call, answer)
        assert_sound(case, call, reply)
        found += [one.verdict for one in reply.answers]
        for request in chain.from_iterable(asked):
            assert (request.method, request.path) != (billable.method, billable.path)
            assert request.path.startswith("/")
        stored = iter(list(chain.from_iterable(answered)))
        replayed = converse(case.provider, call, lambda _, stored=stored: next(stored))  # type: ignore[misc]
        assert replayed == (asked, answered, reply)
    assert Verdict.FOUND in found


def polls_survive_garbage_at_every_step(case: Case) -> None:
    if case.play is None:
        return
    for call in calls(case):
        if case.provider.poll(call) is None:
            continue
        play = case.play(call)
        rounds = len(converse(case.provider, call, lambda r, p=play: as_response(p(r)))[0])  # type: ignore[misc]
        for spoiled in range(rounds):
            for status in (200, 302, 404, 500):
                for body in GARBAGE.values():
                    assert_sound(case, call, _spoiled(case, call, play, spoiled, status, body))
        return


def _spoiled(case: Case, call: Call, play: Play, step: int, status: int, body: bytes) -> Reply:
    poll = case.provider.poll(call)
    assert poll is not None
    requests = next(poll)
    for now in range(10):
        good = now != step
        try:
            requests = poll.send(
                [as_response(play(r)) if good else HttpResponse(status, {}, body) for r in requests]
            )
        except StopIteration as done:
            reply: Reply = done.value
            if not good:
                unsaid = [a for a in reply.answers if a.verdict is not Verdict.PENDING]
                assert now or not unsaid
            return reply
    raise AssertionError("a poll does not come to an end")


def balances_are_free_and_tolerant(case: Case) -> None:
    provider = case.provider
    request = provider.balance_request()
    for call in calls(case, size=case.cls.limits.minimum):
        billable = provider.request(call)
        assert (request.method, request.path) != (billable.method, billable.path)
    for status in (200, 302, 401, 500):
        for body in GARBAGE.values():
            assert provider.read_balance(HttpResponse(status, {}, body)) is None


def caps_are_whole_amounts(case: Case) -> None:
    for product in case.cls.default_prices:
        cap = case.provider.cap_micro(product)
        assert cap is None or cap > 0


def _mutated(value: object, draw: Callable[[], int]) -> object:
    """A copy with some members dropped, renamed, doubled, or of another type."""
    junk: tuple[object, ...] = (None, True, -1, 10**30, "", "k1", [], {}, [None], "\0", 1.5)
    fate = draw() % 40
    if fate < len(junk):
        return junk[fate] if draw() % 4 == 0 else value
    if isinstance(value, Mapping):
        return {
            (name if draw() % 25 else f"{name}x"): _mutated(member, draw)
            for name, member in value.items()
            if draw() % 25
        }
    if isinstance(value, list | tuple):
        members = [_mutated(member, draw) for member in value if draw() % 15]
        return members + members[: draw() % 2]
    return value


def damaged_replies_stay_sound(case: Case) -> None:
    provider = case.provider
    chosen = calls(case, size=min(3, case.cls.limits.maximum))

    @settings(max_examples=150, deadline=None, database=None)
    @given(st.sampled_from(chosen), st.randoms(use_true_random=False))
    def run(call: Call, random: Random) -> None:
        def draw() -> int:
            return random.randrange(1_000_000)

        damaged = _mutated(case.reply(call), draw)
        assert_sound(case, call, provider.read(call, as_response(damaged)))
        if case.delivery is not None and call.webhook_url:
            body = json.dumps(_mutated(case.delivery(call), draw)).encode()
            assert_sound(case, call, provider.read_delivery(call, body))
        if case.play is not None and provider.poll(call) is not None:
            play = case.play(call)
            _, _, reply = converse(
                provider, call, lambda request: as_response(_mutated(play(request), draw))
            )
            assert_sound(case, call, reply)

    run()


def bytes_flipped_in_replies_stay_sound(case: Case) -> None:
    provider = case.provider
    chosen = calls(case, size=case.cls.limits.minimum)

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.sampled_from(chosen), st.integers(0, 10**6), st.binary(max_size=4))
    def run(call: Call, place: int, junk: bytes) -> None:
        whole = as_response(case.reply(call)).body
        at = place % len(whole)
        body = whole[:at] + junk + whole[at + 1 :]
        assert_sound(case, call, provider.read(call, HttpResponse(200, {}, body)))

    run()


CHECKS: tuple[Callable[[Case], None], ...] = (
    declarations_are_coherent,
    offers_and_groups_partition,
    personal_email_needs_consent,
    requests_hold_every_person_once,
    requests_are_well_formed_and_repeatable,
    keys_go_into_headers_only,
    the_documented_reply_answers_everybody,
    a_reply_to_another_call_answers_nobody,
    garbage_is_never_an_answer,
    a_reply_cut_at_the_cap_is_in_doubt,
    documented_errors_mean_what_they_say,
    errors_of_strangers_are_in_doubt,
    deliveries_of_garbage_change_nothing,
    deliveries_answer_what_was_asked,
    polls_are_free_and_replayable,
    polls_survive_garbage_at_every_step,
    balances_are_free_and_tolerant,
    caps_are_whole_amounts,
    damaged_replies_stay_sound,
    bytes_flipped_in_replies_stay_sound,
)
