"""The adapters over real HTTP against the sandbox: what they say was bought is what was charged.

Requests leave through the one client, deliveries arrive at a small receiver of this test. Crashes,
lost replies and budgets are the engine's and are tested there.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest

from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.providers.http import ProviderClient, ReplyLost, encode
from enrich_pipeline.providers.protocol import (
    Call,
    Disposition,
    InDoubtPolicy,
    Item,
    Provider,
    Reply,
    Verdict,
)
from enrich_pipeline_tests.conformance.cases import CASES
from enrich_pipeline_tests.conformance.sixth_provider import Hexagon
from enrich_pipeline_tests.conformance.suite import (
    Case,
    assert_sound,
    call_of,
    converse,
    groups,
    person,
)
from enrich_pipeline_tests.support.sandbox import SandboxProcess

SIMULATED = tuple(case for case in CASES if case.cls is not Hexagon)
"""The sixth exists only on paper."""
PERSONS = 40
FINAL = {Verdict.FOUND, Verdict.NOT_FOUND, Verdict.FAILED, Verdict.FILTERED, Verdict.INVALID_INPUT}
_fresh_person = count(1000)


class Inbox:
    """Receives webhooks and keeps their bodies by token, the last part of the path."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = defaultdict(list)
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies[self.path.rpartition("/")[2]].append(body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Test output stays quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class World:
    sandbox: SandboxProcess
    inbox: Inbox
    tokens: Iterator[int] = field(default_factory=lambda: count(1))

    def client(
        self, provider: Provider, key: str = "test-key", timeout: float = 20
    ) -> ProviderClient:
        return ProviderClient(
            self.sandbox.base_url(provider.name), provider.headers(key), timeout=timeout
        )

    def charged(self, provider: Provider) -> int:
        return self.sandbox.meter()[provider.name]["charged_micro"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    inbox = Inbox()
    quick = ("--pronto-delay", "0.05-0.3", "--apollo-delay", "0.05-0.3", "--lance-delay", "0.1-0.4")
    with SandboxProcess(quick) as sandbox:
        yield World(sandbox, inbox)
        sandbox.wait_for_deliveries()
        broken = sandbox.violations()["counts"]
    inbox.close()
    # Whatever the tests sent: nothing but the keys refused on purpose broke a documented rule.
    assert {rule for rule in broken if not rule.endswith(".unauthorized")} == set()


def fresh_call(case: Case, world: World, group: str, size: int) -> Call:
    """A call for persons whom nobody asked about before."""
    offers = next(offers for name, offers in groups(case) if name == group)
    drafted = call_of(group, offers, 1)
    products = drafted.items[0].products
    items = tuple(Item(f"k{n}", person(next(_fresh_person)), products) for n in range(size))
    url = f"{world.inbox.url}/webhooks/{case.cls.name}/t{next(world.tokens)}"
    return Call(group, items, url if drafted.webhook_url else None)


def lines(call: Call) -> set[tuple[str, str]]:
    return {(item.key, product) for item in call.items for product in item.products}


@dataclass
class Bought:
    """How a call ended: the verdict per charge line and what it cost by the adapter's words."""

    verdicts: dict[tuple[str, str], Verdict]
    cost_micro: int
    anomalies: set[str]


def buy(case: Case, world: World, call: Call, *, by_poll: bool = False) -> Bought:
    """Sends a call and follows it until every charge line has its verdict."""
    provider = case.provider
    replies: list[Reply] = []
    with world.client(provider) as client:
        request = provider.request(call)
        response = client.send(request, body=encode(request), deadline_seconds=30)
        reply = provider.read(call, response)
        replies.append(reply)
        assert reply.disposition in (Disposition.ANSWERED, Disposition.ACCEPTED), reply
        call = Call(call.group, call.items, call.webhook_url, reply.job_id)
        token = (call.webhook_url or "").rpartition("/")[2]
        read = 0
        deadline = time.monotonic() + 20
        while awaited := frozenset(key for key, _ in open_lines(call, replies)):
            assert time.monotonic() < deadline, "some charge lines are never answered"
            time.sleep(0.05)
            bodies = [] if by_poll else world.inbox.bodies[token][read:]
            read += len(bodies)
            news = [provider.read_delivery(call, body) for body in bodies]
            if by_poll or not call.webhook_url:
                _, _, polled = converse(
                    provider,
                    replace(call, awaited=awaited),
                    lambda asked: client.send(asked, deadline_seconds=20),
                )
                news.append(polled)
            replies += [one for one in news if one.answers]
    for reply in replies:
        assert_sound(case, call, reply)
    verdicts = {
        (a.key, a.product): a.verdict for one in replies for a in one.answers if a.verdict in FINAL
    }
    return Bought(
        verdicts, cost(case, replies), {code for one in replies for code in one.anomalies}
    )


def open_lines(call: Call, replies: list[Reply]) -> set[tuple[str, str]]:
    if replies[0].disposition is Disposition.ANSWERED:
        return set()
    done = {(a.key, a.product) for one in replies for a in one.answers if a.verdict in FINAL}
    return lines(call) - done


def cost(case: Case, replies: list[Reply]) -> int:
    """What the provider reports, else the tariff of what it found, usable or not."""
    reported = [one.cost_micro for one in replies if one.cost_micro is not None]
    if reported:
        return sum(reported)
    prices = {name: int(price) * MICRO for name, price in case.cls.default_prices.items()}
    return sum(
        prices[answer.product]
        for one in replies
        for answer in one.answers
        if answer.verdict is Verdict.FOUND or answer.reason == "matched_no_data"
    )


def every_group() -> list[tuple[Case, str]]:
    return [(case, group) for case in SIMULATED for group, _ in dict(groups(case)).items()]


cases = pytest.mark.parametrize("case", SIMULATED, ids=lambda case: case.cls.name)


@pytest.mark.parametrize(
    ("case", "group"), every_group(), ids=lambda v: v if isinstance(v, str) else v.cls.name
)
def test_verdicts_and_costs_agree_with_the_meter(world: World, case: Case, group: str) -> None:
    before = world.charged(case.provider)
    call = fresh_call(case, world, group, min(PERSONS, case.cls.limits.maximum))
    bought = buy(case, world, call)
    assert set(bought.verdicts) == lines(call)
    assert bought.cost_micro == world.charged(case.provider) - before
    assert bought.cost_micro > 0
    assert not {code for code in bought.anomalies if not code.startswith("unusable_")}


@cases
def test_the_smallest_call(world: World, case: Case) -> None:
    before = world.charged(case.provider)
    bought = [
        buy(case, world, fresh_call(case, world, group, case.cls.limits.minimum))
        for group, _ in groups(case)
    ]
    assert sum(one.cost_micro for one in bought) == world.charged(case.provider) - before


@pytest.mark.parametrize("by_poll", [False, True])
def test_a_lone_contact_of_pronto_is_delivered_and_can_be_polled(
    world: World, by_poll: bool
) -> None:
    case = next(case for case in SIMULATED if case.cls.name == "pronto")
    before = world.charged(case.provider)
    bought = [
        buy(case, world, fresh_call(case, world, group, 1), by_poll=by_poll)
        for group, _ in groups(case)
        for _ in range(3)
    ]
    assert sum(one.cost_micro for one in bought) == world.charged(case.provider) - before


def test_apollo_tells_the_same_by_poll_as_by_webhook(world: World) -> None:
    case = next(case for case in SIMULATED if case.cls.name == "apollo")
    before = world.charged(case.provider)
    bought = buy(case, world, fresh_call(case, world, "mobile", 10), by_poll=True)
    assert bought.cost_micro == world.charged(case.provider) - before


@cases
def test_what_may_be_sent_again_is_free_the_second_time(world: World, case: Case) -> None:
    if case.cls.in_doubt is InDoubtPolicy.AT_MOST_ONCE:
        return
    for group, _ in groups(case):
        call = fresh_call(case, world, group, 20)
        first = buy(case, world, call)
        before = world.charged(case.provider)
        second = buy(case, world, call)
        failed = {line for line, verdict in first.verdicts.items() if verdict is Verdict.FAILED}
        assert {k: v for k, v in second.verdicts.items() if k not in failed} == {
            k: v for k, v in first.verdicts.items() if k not in failed
        }
        if not failed:
            assert world.charged(case.provider) == before


@cases
def test_a_refused_key_is_unauthorized_and_free(world: World, case: Case) -> None:
    provider = case.provider
    before = world.charged(provider)
    with world.client(provider, key="invalid-key") as client:
        for group, _ in groups(case):
            call = fresh_call(case, world, group, 2)
            response = client.send(provider.request(call), deadline_seconds=20)
            assert provider.read(call, response).disposition is Disposition.UNAUTHORIZED
    assert world.charged(provider) == before


@cases
def test_an_empty_account_has_no_credits_and_is_not_charged(world: World, case: Case) -> None:
    provider = case.provider
    before = world.charged(provider)
    try:
        world.sandbox.balance(0, provider.name)
        with world.client(provider) as client:
            for group, _ in groups(case):
                call = fresh_call(case, world, group, case.cls.limits.maximum)
                response = client.send(provider.request(call), deadline_seconds=20)
                assert provider.read(call, response).disposition is Disposition.NO_CREDITS
            balance = client.send(provider.balance_request(), deadline_seconds=20)
            assert provider.read_balance(balance) == 0
    finally:
        world.sandbox.balance(10**12, provider.name)
    assert world.charged(provider) == before


def test_a_missing_account_consent_is_refused_as_a_whole(world: World) -> None:
    case = next(case for case in SIMULATED if case.cls.name == "pronto")
    provider = case.provider
    world.sandbox.account(pronto_consent=False)
    try:
        with world.client(provider) as client:
            call = fresh_call(case, world, "personal_email", 2)
            reply = provider.read(call, client.send(provider.request(call), deadline_seconds=20))
    finally:
        world.sandbox.account(pronto_consent=True)
    assert (reply.disposition, reply.reason) == (Disposition.REFUSED, "account_consent")


@cases
def test_the_balance_is_the_sandboxes_own(world: World, case: Case) -> None:
    provider = case.provider
    with world.client(provider) as client:
        response = client.send(provider.balance_request(), deadline_seconds=20)
    assert provider.read_balance(response) == world.sandbox.meter()[provider.name]["balance_micro"]


def faulty(world: World, case: Case, **fault: object) -> Reply | None:
    """The reply to a call on which a fault strikes; None where the reply is lost."""
    provider = case.provider
    world.sandbox.faults({"provider": provider.name, "times": 1} | fault)
    try:
        with world.client(provider) as client:
            call = fresh_call(case, world, groups(case)[0][0], case.cls.limits.maximum)
            response = client.send(provider.request(call), deadline_seconds=20)
            reply = provider.read(call, response)
            assert_sound(case, call, reply)
            return reply
    except ReplyLost:
        return None
    finally:
        world.sandbox.clear_faults()


@cases
@pytest.mark.parametrize("kind", ["charge_then_drop", "drop_before", "cut_body"])
def test_a_broken_connection_is_a_lost_reply(world: World, case: Case, kind: str) -> None:
    assert faulty(world, case, kind=kind) is None


@cases
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html"},
        {"kind": "truncate"},
        {"kind": "charge_then_status", "status": 502, "body": "Bad Gateway"},
        {"kind": "charge_then_status", "status": 504, "body": {"title": "Gateway Timeout"}},
        {"kind": "status", "status": 503, "body": {"title": "Service Unavailable"}},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_a_reply_that_is_not_the_providers_own_is_in_doubt(
    world: World, case: Case, fault: dict[str, object]
) -> None:
    reply = faulty(world, case, **fault)
    assert reply is not None
    assert (reply.disposition, reply.answers) == (Disposition.IN_DOUBT, ())


@pytest.mark.parametrize(("name", "status"), [("lance", 500), ("prospeo", 400)])
def test_a_failure_of_its_own_after_the_work_is_in_doubt(
    world: World, name: str, status: int
) -> None:
    case = next(case for case in SIMULATED if case.cls.name == name)
    call = fresh_call(case, world, groups(case)[0][0], 20)
    time.sleep(0.5)  # what earlier tests left under way is charged when it finishes
    before = world.charged(case.provider)
    world.sandbox.faults(
        {"provider": name, "times": 1, "kind": "charge_then_status", "status": status}
    )
    with world.client(case.provider) as client:
        response = client.send(case.provider.request(call), deadline_seconds=20)
    world.sandbox.clear_faults()
    assert response.status == status
    assert case.provider.read(call, response).disposition is Disposition.IN_DOUBT
    # What may be sent again brings what was made, and is charged for once.
    bought = buy(case, world, call)
    assert set(bought.verdicts) == lines(call)
    found = sum(verdict is Verdict.FOUND for verdict in bought.verdicts.values())
    assert world.charged(case.provider) - before == found * MICRO > 0


@cases
def test_a_throttled_call_is_free_and_says_how_long_to_wait(world: World, case: Case) -> None:
    world.sandbox.wait_for_deliveries()
    before = world.charged(case.provider)
    reply = faulty(world, case, kind="429", seconds=3)
    assert reply is not None
    assert reply.disposition is Disposition.THROTTLED
    assert reply.retry_after is None or 1 <= reply.retry_after <= 5
    assert world.charged(case.provider) == before


@cases
def test_silence_after_sending_is_a_lost_reply(world: World, case: Case) -> None:
    provider = case.provider
    world.sandbox.latency(1500, provider=provider.name)
    try:
        with world.client(provider, timeout=0.3) as client:
            call = fresh_call(case, world, groups(case)[0][0], 2)
            with pytest.raises(ReplyLost):
                client.send(provider.request(call), deadline_seconds=20)
    finally:
        world.sandbox.latency(0, provider=provider.name)
