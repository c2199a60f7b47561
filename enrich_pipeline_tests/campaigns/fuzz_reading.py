"""Mutated replies and deliveries, read by the adapters alone: no network, no database.

Every input has a number; the seed and that number give the same bytes again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from functools import cache
from pathlib import Path
from random import Random

from enrich_pipeline.domain.enrichment import ATTRIBUTES, Attribute, ValueStatus
from enrich_pipeline.providers.protocol import (
    Call,
    Disposition,
    HttpRequest,
    HttpResponse,
    Reply,
    Verdict,
)
from enrich_pipeline.providers.reading import MAX_CREDITS, MAX_WAIT_SECONDS

from ..conformance.cases import CASES
from ..conformance.suite import SAFE, Case, call_of, groups
from . import mutations

KEPT_VIOLATIONS = 20

STATUSES = (200, 201, 202, 204, 302, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503)
HEADERS: tuple[Mapping[str, str], ...] = (
    {},
    {"retry-after": "-5"},
    {"retry-after": "1e400"},
    {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"},
    {"retry-after": "9" * 5_000},
    {"retry-after": "NaN", "x-daily-request-left": "0", "x-daily-reset-seconds": "-inf"},
    {"x-minute-request-left": "0", "x-minute-reset-seconds": "99999999999999999999"},
)


@dataclass
class Tally:
    """What one task did. Violations name the input by which they can be had again."""

    inputs: int = 0
    exceptions: int = 0
    negative_costs: int = 0
    doubled_verdicts: int = 0
    dispositions: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    memory_bytes: int = 0

    def add(self, other: "Tally") -> None:
        self.inputs += other.inputs
        self.exceptions += other.exceptions
        self.negative_costs += other.negative_costs
        self.doubled_verdicts += other.doubled_verdicts
        self.dispositions += other.dispositions
        self.violations = (self.violations + other.violations)[:KEPT_VIOLATIONS]
        self.memory_bytes = max(self.memory_bytes, other.memory_bytes)


def memory_bytes() -> int:
    """The most memory that this process ever held."""
    for entry in Path("/proc/self/status").read_text().splitlines():
        if entry.startswith("VmHWM:"):
            return int(entry.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell VmHWM")


# ---------------------------------------------------------------------------------- what must hold


@dataclass(frozen=True)
class Subject:
    """One call of one provider with valid bodies of its conversation, as JSON texts."""

    case: Case
    call: Call
    replies: tuple[tuple[int, str], ...]
    deliveries: tuple[str, ...]
    polls: bool
    attributes: Mapping[str, frozenset[Attribute]]


@cache
def subjects(provider: str) -> tuple[Subject, ...]:
    """Every kind of call of a provider, in sizes of one to three persons."""
    case = next(case for case in CASES if case.cls.name == provider)
    least = 1 if case.cls.limits.single else case.cls.limits.minimum
    found = []
    for group, offers in groups(case):
        for size in range(least, 4):
            call = call_of(group, offers, size)
            bodies = [(200, case.reply(call)), *((s, body) for s, body, _ in case.errors)]
            is_delivered = case.delivery is not None and call.webhook_url is not None
            found.append(
                Subject(
                    case,
                    call,
                    tuple((status, json.dumps(body, default=str)) for status, body in bodies),
                    (json.dumps(case.delivery(call), default=str),)
                    if is_delivered and case.delivery
                    else (),
                    case.play is not None and case.provider.poll(call) is not None,
                    {
                        offer.product: frozenset(a for f in offer.fields for a in ATTRIBUTES[f])
                        for offer in offers
                    },
                )
            )
    return tuple(found)


def faults_of(subject: Subject, reply: Reply) -> Iterator[str]:
    """What is wrong with a reply, whatever bytes it was read from; a word first."""
    sent = {item.key: item for item in subject.call.items}
    lines = [(answer.key, answer.product) for answer in reply.answers]
    if len(set(lines)) < len(lines):
        yield "doubled: a charge line is answered twice"
    costs = [reply.cost_micro, *(answer.cost_micro for answer in reply.answers)]
    if any(cost is not None and not 0 <= cost <= MAX_CREDITS * 10**6 for cost in costs):
        yield "cost: out of range"
    if reply.answers and reply.disposition not in (Disposition.ANSWERED, Disposition.ACCEPTED):
        yield "answers: in a reply that settles nothing"
    if reply.retry_after is not None and not 0 <= reply.retry_after <= MAX_WAIT_SECONDS:
        yield "wait: out of range"
    for word in (reply.reason, *reply.anomalies, *(a.reason or "" for a in reply.answers)):
        if len(word) > 80 or not SAFE.fullmatch(word):
            yield "word: not a code"
    for answer in reply.answers:
        if answer.key not in sent or answer.product not in sent[answer.key].products:
            yield "line: not asked for"
            continue
        is_usable = any(v.status is not ValueStatus.INVALID for v in answer.values)
        if (answer.verdict is Verdict.FOUND) != is_usable:
            yield "verdict: FOUND is a usable value"
        for value in answer.values:
            if value.attribute not in subject.attributes[answer.product]:
                yield "value: of another field"
            if not 0 < len(value.value) <= 500 or _is_unstorable(value.value):
                yield "value: cannot be stored"
        for moment in (answer.created_at, *(v.observed_at for v in answer.values)):
            if moment is not None and moment.utcoffset() != UTC.utcoffset(None):
                yield "time: not in UTC"
        who = answer.subject
        for part in (who.first_name, who.last_name, who.full_name, who.linkedin, who.provider_id):
            if part is not None and (len(part) > 500 or _is_unstorable(part)):
                yield "subject: cannot be stored"


def _is_unstorable(value: str) -> bool:
    """PostgreSQL takes neither a NUL nor half of a surrogate pair."""
    return "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)


def judge(tally: Tally, place: str, subject: Subject, read: Callable[[], Reply]) -> None:
    """Reads one input and counts what is wrong with the outcome."""
    tally.inputs += 1
    try:
        reply = read()
        faults = list(faults_of(subject, reply))
    except Exception as error:  # noqa: BLE001  (what this campaign looks for)
        tally.exceptions += 1
        tally.violations.append(f"{place}: {type(error).__name__}")
        return
    tally.dispositions[reply.disposition.value] += 1
    tally.negative_costs += any(fault.startswith("cost") for fault in faults)
    tally.doubled_verdicts += any(fault.startswith("doubled") for fault in faults)
    tally.violations += [f"{place}: {fault}" for fault in faults]


# --------------------------------------------------------------------------------------- the tasks


def replies(provider: str, seed: int, first: int, count: int) -> Tally:
    """Mutated replies to the request, and to every question of a poll."""
    tally = Tally()
    known = subjects(provider)
    for number in range(first, first + count):
        random = Random(f"{seed}:{provider}:{number}")
        subject = random.choice(known)
        place = f"replies {provider} input {number}"
        if subject.polls and random.random() < 0.4:
            judge(tally, place, subject, lambda s=subject, r=random: _polled(s, r))  # type: ignore[misc]
            continue
        is_success = random.random() < 0.85
        status, valid = subject.replies[0] if is_success else random.choice(subject.replies)
        if random.random() < 0.05:
            status = random.choice(STATUSES)
        response = _response(random, status, valid)
        api = subject.case.provider
        judge(tally, place, subject, lambda a=api, s=subject, r=response: a.read(s.call, r))  # type: ignore[misc]
        if random.random() < 0.05:
            _read_balance(tally, place, subject, response)
    tally.memory_bytes = memory_bytes()
    return tally


def _response(random: Random, status: int, valid: str) -> HttpResponse:
    headers = random.choice(HEADERS) if random.random() < 0.1 else {}
    truncated = random.random() < 0.01
    return HttpResponse(status, headers, mutations.body(random, valid), truncated)


def _polled(subject: Subject, random: Random) -> Reply:
    """A whole poll, each answer of it mutated."""
    play = subject.case.play
    conversation = subject.case.provider.poll(subject.call)
    assert play is not None
    assert conversation is not None
    answer = play(subject.call)

    def respond(request: HttpRequest) -> HttpResponse:
        valid = json.dumps(answer(request), default=str)
        if random.random() < 0.4:
            return HttpResponse(200, {}, valid.encode())
        return _response(random, 200 if random.random() < 0.9 else random.choice(STATUSES), valid)

    asked = next(conversation)
    for _ in range(10):
        try:
            asked = conversation.send([respond(request) for request in asked])
        except StopIteration as end:
            reply: Reply = end.value
            return reply
    raise RuntimeError("the poll does not end")


def _read_balance(tally: Tally, place: str, subject: Subject, response: HttpResponse) -> None:
    try:
        balance = subject.case.provider.read_balance(response)
    except Exception as error:  # noqa: BLE001  (what this campaign looks for)
        tally.exceptions += 1
        tally.violations.append(f"{place}: read_balance {type(error).__name__}")
        return
    if balance is not None and balance < 0:
        tally.negative_costs += 1
        tally.violations.append(f"{place}: negative balance")


def deliveries(provider: str, seed: int, first: int, count: int) -> Tally:
    """Mutated webhook bodies, read against the call whose token they came with."""
    tally = Tally()
    known = [subject for subject in subjects(provider) if subject.deliveries]
    for number in range(first, first + count):
        random = Random(f"{seed}:delivery:{provider}:{number}")
        subject = random.choice(known)
        body = mutations.body(random, random.choice(subject.deliveries))
        api = subject.case.provider
        judge(
            tally,
            f"deliveries {provider} input {number}",
            subject,
            lambda a=api, s=subject, b=body: a.read_delivery(s.call, b),  # type: ignore[misc]
        )
    tally.memory_bytes = memory_bytes()
    return tally
