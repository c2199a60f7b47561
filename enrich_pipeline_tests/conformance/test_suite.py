"""The suite catches what it is there for: adapters with one defect each do not pass."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.providers.protocol import (
    Answer,
    Call,
    Datapoint,
    Disposition,
    FoundValue,
    HttpRequest,
    HttpResponse,
    Offer,
    Reply,
    Verdict,
)
from enrich_pipeline_tests.conformance import suite
from enrich_pipeline_tests.conformance.cases import CASES
from enrich_pipeline_tests.conformance.sixth_provider import Hexagon
from enrich_pipeline_tests.conformance.suite import Case

SOUND = next(case for case in CASES if case.cls is Hexagon)


class Trusting(Hexagon):
    """Takes any 200 for an answer."""

    def read(self, call: Call, response: HttpResponse) -> Reply:
        reply = super().read(call, response)
        return replace(reply, disposition=Disposition.ANSWERED) if response.status == 200 else reply


class Fragile(Hexagon):
    """Raises on what it does not expect."""

    def read(self, call: Call, response: HttpResponse) -> Reply:
        response.body.decode()
        return super().read(call, response)


class Chatty(Hexagon):
    """Quotes the reply in its reason."""

    def read(self, call: Call, response: HttpResponse) -> Reply:
        return replace(super().read(call, response), reason=response.body[:40].decode("latin-1"))


class Inventive(Hexagon):
    """Answers for whom nobody asked."""

    def read(self, call: Call, response: HttpResponse) -> Reply:
        value = FoundValue(Attribute.PHONE, "+33612345678", ValueStatus.VERIFIED)
        reply = super().read(call, response)
        extra = Answer("nobody", "phone", Verdict.FOUND, (value,))
        return replace(reply, answers=(*reply.answers, extra))


class Retrying(Hexagon):
    """Takes every server error for free of charge."""

    def read(self, call: Call, response: HttpResponse) -> Reply:
        if response.status >= 500:
            return Reply(Disposition.TRANSIENT)
        return super().read(call, response)


class Indiscreet(Hexagon):
    """Sells personal e-mail without consent."""

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        return tuple(
            replace(offer, fields=(Field.PERSONAL_EMAIL,))
            for offer in super().offers(consented=consented)
        )


class Forgetful(Hexagon):
    """Leaves the last person out of the request."""

    def request(self, call: Call) -> HttpRequest:
        return super().request(replace(call, items=call.items[:-1]))


class Moody(Hexagon):
    """Never builds the same request twice."""

    _turn = 0

    def request(self, call: Call) -> HttpRequest:
        Moody._turn += 1
        request = super().request(call)
        assert isinstance(request.json, dict)
        return replace(request, json=request.json | {"turn": Moody._turn})


class Priceless(Hexagon):
    """Sells what has no price."""

    default_prices = {}


class Undemanding(Hexagon):
    """Requires nothing of a person."""

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        return (Offer("phone", (Field.PHONE,), (frozenset(),), (Datapoint.EMAIL,)),)


@pytest.mark.parametrize(
    ("defective", "check"),
    [
        (Trusting, suite.garbage_is_never_an_answer),
        (Fragile, suite.garbage_is_never_an_answer),
        (Chatty, suite.garbage_is_never_an_answer),
        (Inventive, suite.the_documented_reply_answers_everybody),
        (Inventive, suite.a_reply_to_another_call_answers_nobody),
        (Retrying, suite.errors_of_strangers_are_in_doubt),
        (Indiscreet, suite.personal_email_needs_consent),
        (Forgetful, suite.requests_hold_every_person_once),
        (Moody, suite.requests_are_well_formed_and_repeatable),
        (Priceless, suite.declarations_are_coherent),
        (Undemanding, suite.declarations_are_coherent),
    ],
    ids=lambda value: value.__name__,
)
def test_a_defect_is_found(defective: type[Hexagon], check: Callable[[Case], None]) -> None:
    check(SOUND)
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        check(replace(SOUND, cls=defective))
