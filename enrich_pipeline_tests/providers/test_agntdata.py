"""What agntdata's documents say, and what is assumed of its replies, held against the adapter."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.providers.agntdata import Agntdata, AgntdataOptions
from enrich_pipeline.providers.protocol import (
    Disposition,
    HttpResponse,
    InDoubtPolicy,
    Unavailable,
    Verdict,
)
from enrich_pipeline.providers.registry import declaration_problems
from enrich_pipeline_tests.providers.cases import (
    answers,
    call,
    item,
    mutated_json,
    person,
    response,
    values,
)

AGNTDATA = Agntdata(AgntdataOptions())
META = {"costCents": 1, "purchasedBalanceCents": 949, "cached": False, "latencyMs": 245}
PERSON: dict[str, Any] = {
    "email": "Patrick@Stripe.com",
    "personal_email": "pc@gmail.com",
    "job_title": "CEO",
    "company_name": "Stripe",
    "company_domain": "www.stripe.com",
    "linkedin_url": "https://linkedin.com/in/patrickcollison",
    "location": "San Francisco",
}


def record(identifier: Any, **changes: Any) -> Any:
    made = {"identifier": identifier, "matched": True, "person": PERSON, "cost_cents": 1}
    return {**made, **changes}


def body(*records: Any, meta: Any = META) -> Any:
    return {"success": True, "data": {"results": list(records)}, "meta": meta}


def failed(code: str | None, **more: Any) -> Any:
    return {"success": False, "error": {"code": code, "message": "m", **more}}


def test_declarations_are_coherent() -> None:
    assert declaration_problems(Agntdata) == []
    assert AGNTDATA.in_doubt is InDoubtPolicy.AT_MOST_ONCE
    assert AGNTDATA.limits.maximum == 100
    assert AGNTDATA.cap_micro("record") == 1_000_000
    assert AGNTDATA.options.tariff_scope == "record"
    with pytest.raises(ValidationError):
        AgntdataOptions.model_validate({"max_cost_cents_per_record": 0})
    with pytest.raises(ValidationError):
        AgntdataOptions.model_validate({"tariff_scope": "week"})


def test_personal_email_is_sold_only_with_consent() -> None:
    (plain,) = AGNTDATA.offers(consented=False)
    (personal,) = AGNTDATA.offers(consented=True)
    assert Field.PERSONAL_EMAIL not in plain.fields
    assert Field.PERSONAL_EMAIL in personal.fields
    assert (plain.options, personal.options) == ("", "personal_email")
    unavailable = AGNTDATA.unavailable(Field.PERSONAL_EMAIL, consented=False)
    assert unavailable is Unavailable.NO_CONSENT
    assert AGNTDATA.unavailable(Field.PERSONAL_EMAIL, consented=True) is None
    assert AGNTDATA.unavailable(Field.PHONE, consented=False) is None


def test_name_and_company_alone_are_not_eligible() -> None:
    (offer,) = AGNTDATA.offers(consented=False)
    assert offer.is_eligible(person(email="a@b.com"))
    assert offer.is_eligible(person(linkedin="a-b"))
    assert not offer.is_eligible(
        person(first_name="A", last_name="B", full_name="A B", company_domain="b.com")
    )


def test_request_sends_only_identifiers_a_fixed_field_list_and_the_cap() -> None:
    agntdata = Agntdata(AgntdataOptions(max_cost_cents_per_record=5))
    both = person(linkedin="patrickcollison", email="p@stripe.com", first_name="Patrick")
    sent = agntdata.request(
        call(
            item("r1", "record", inputs=both), item("r2", "record", inputs=person(email="e@x.com"))
        )
    )
    fields = ["email", "job_title", "company_name", "company_domain", "linkedin_url", "location"]
    assert (sent.method, sent.path) == ("POST", "/people/bulk-enrich")
    assert sent.json == {
        "inputs": [
            {
                "identifier": "r1",
                "linkedin_url": "https://www.linkedin.com/in/patrickcollison",
                "email": "p@stripe.com",
            },
            {"identifier": "r2", "email": "e@x.com"},
        ],
        "fields": fields,
        "max_cost_cents_per_record": 5,
    }
    (offer,) = agntdata.offers(consented=True)
    ((group, offers),) = agntdata.groups([offer])
    assert offers == (offer,)
    personal = agntdata.request(call(item("r1", "record", inputs=both), group=group))
    assert isinstance(personal.json, dict)
    assert personal.json["fields"] == [*fields, "personal_email"]
    assert agntdata.headers("agnt_live_1") == {"Authorization": "Bearer agnt_live_1"}


def test_found_and_missed_records() -> None:
    sent = call(item("r1", "record"), item("r2", "record"))
    reply = AGNTDATA.read(
        sent, response(body(record("r1"), record("r2", matched=False, person=None, cost_cents=0)))
    )
    assert reply.disposition is Disposition.ANSWERED
    assert (reply.cost_micro, reply.anomalies) == (1_000_000, ())
    found, missed = answers(reply)["r1", "record"], answers(reply)["r2", "record"]
    assert (found.verdict, found.cost_micro) == (Verdict.FOUND, 1_000_000)
    assert values(found) == {
        "work_email": ("patrick@stripe.com", "unknown"),
        "job_title": ("CEO", "unknown"),
        "company_name": ("Stripe", "unknown"),
        "company_domain": ("stripe.com", "unknown"),
        "linkedin_url": ("https://www.linkedin.com/in/patrickcollison", "unknown"),
        "location": ("San Francisco", "unknown"),
    }
    assert found.subject.linkedin == "patrickcollison"
    assert (missed.verdict, missed.reason) == (Verdict.NOT_FOUND, "not_matched")
    assert missed.cost_micro == 0


@pytest.mark.parametrize(
    ("group", "consent", "kept"),
    [
        ("personal_email", True, True),
        ("personal_email", False, False),
        ("", True, False),
        ("", False, False),
    ],
)
def test_personal_email_is_kept_only_when_asked_and_consented(
    group: str, consent: bool, kept: bool
) -> None:
    inputs = person(linkedin="patrickcollison", consent=consent)
    sent = call(item("r1", "record", inputs=inputs), group=group)
    answer = answers(AGNTDATA.read(sent, response(body(record("r1")))))["r1", "record"]
    assert ("personal_email" in values(answer)) is kept


def test_reply_without_meta_states_no_cost() -> None:
    sent = call(item("r1", "record"))
    for meta in (None, {}, {"costCents": None}, {"costCents": "?"}, "nonsense"):
        reply = AGNTDATA.read(sent, response(body(record("r1"), meta=meta)))
        assert reply.cost_micro is None
        # Nor does what it says of each record: the tariff decides.
        assert [answer.cost_micro for answer in reply.answers] == [None]
    reply = AGNTDATA.read(sent, response(body(record("r1"), meta={"costCents": 0.85})))
    assert reply.cost_micro == 850_000


@pytest.mark.parametrize(
    ("scope", "charged", "cost"),
    [
        ("record", 3, 6_000_000),
        ("record", 0, 0),
        ("request", 3, 2_000_000),
        ("request", 1, 2_000_000),
        ("request", 0, 0),
    ],
)
def test_the_price_is_of_a_record_or_of_the_request(scope: str, charged: int, cost: int) -> None:
    agntdata = Agntdata(AgntdataOptions.model_validate({"tariff_scope": scope}))
    assert agntdata.tariff_micro({"record": 2_000_000}, ["record"] * charged) == cost


def test_matched_record_without_values_is_a_miss_at_its_cost() -> None:
    reply = AGNTDATA.read(call(item("r1", "record")), response(body(record("r1", person={}))))
    answer = answers(reply)["r1", "record"]
    assert (answer.verdict, answer.reason) == (Verdict.NOT_FOUND, "matched_no_data")
    assert answer.cost_micro == 1_000_000


@pytest.mark.parametrize(
    "unreadable",
    [
        record("r1", person="x"),
        record("r1", matched=None, person=None),
        record("r1", person={"email": ["a@b.com"]}),
        {"identifier": "r1"},
    ],
)
def test_unreadable_record_is_no_miss(unreadable: Any) -> None:
    reply = AGNTDATA.read(call(item("r1", "record")), response(body(unreadable)))
    assert reply.answers == ()
    assert "unreadable_item:1" in reply.anomalies


def test_positions_are_trusted_only_by_option_and_equal_length() -> None:
    bare = [record(None), record(None, matched=False, person=None)]
    sent = call(item("r1", "record"), item("r2", "record"))
    strict = AGNTDATA.read(sent, response(body(*bare)))
    assert (strict.disposition, strict.reason) == (Disposition.IN_DOUBT, "no_identifiers")
    positional = Agntdata(AgntdataOptions(allow_positional=True))
    reply = positional.read(sent, response(body(*bare)))
    assert answers(reply)["r1", "record"].verdict is Verdict.FOUND
    assert answers(reply)["r2", "record"].verdict is Verdict.NOT_FOUND
    short = positional.read(sent, response(body(bare[0])))
    assert (short.disposition, short.reason) == (Disposition.IN_DOUBT, "length_mismatch")
    named = positional.read(sent, response(body(record("r2"), record("r1", matched=False))))
    assert answers(named)["r2", "record"].verdict is Verdict.FOUND


def test_identifiers_are_counted_when_missing_unknown_or_doubled() -> None:
    sent = call(item("r1", "record"), item("r2", "record"))
    reply = AGNTDATA.read(sent, response(body(record("r1"), record("r1"), record("zz"))))
    assert set(answers(reply)) == {("r1", "record")}
    assert reply.anomalies == (
        "duplicate_identifier:1",
        "missing_identifier:1",
        "unknown_identifier:1",
    )


@pytest.mark.parametrize(
    ("status", "content", "disposition"),
    [
        (400, failed("VALIDATION_ERROR"), Disposition.INVALID),
        (400, failed(None), Disposition.INVALID),
        (400, b"<html></html>", Disposition.IN_DOUBT),
        (401, failed("UNAUTHORIZED"), Disposition.UNAUTHORIZED),
        (402, failed("INSUFFICIENT_CREDITS"), Disposition.NO_CREDITS),
        (402, failed(None), Disposition.NO_CREDITS),
        (402, b"", Disposition.IN_DOUBT),
        (404, failed("ENDPOINT_NOT_FOUND"), Disposition.REFUSED),
        (409, failed("CONFLICT"), Disposition.IN_DOUBT),
        (409, failed("DUPLICATE_REQUEST"), Disposition.IN_DOUBT),
        (418, failed("TEAPOT"), Disposition.REFUSED),
        (418, {"error": {"code": "TEAPOT"}}, Disposition.IN_DOUBT),
        (418, b"<html></html>", Disposition.IN_DOUBT),
        (404, failed(None), Disposition.IN_DOUBT),
        (429, failed("RATE_LIMITED"), Disposition.THROTTLED),
        (429, b"slow down", Disposition.THROTTLED),
        (502, failed("PROVIDER_ERROR"), Disposition.TRANSIENT),
        (500, failed("INTERNAL_ERROR"), Disposition.TRANSIENT),
        (500, failed("OUT_OF_COFFEE"), Disposition.TRANSIENT),
        (503, failed("OUT_OF_COFFEE"), Disposition.TRANSIENT),
        (500, failed("CONFLICT"), Disposition.IN_DOUBT),
        (500, failed(None), Disposition.IN_DOUBT),
        (503, b"<html></html>", Disposition.IN_DOUBT),
        (503, {"error": {"code": 503, "message": "no upstream"}}, Disposition.IN_DOUBT),
        (503, {"error": {"code": "UNAVAILABLE"}}, Disposition.IN_DOUBT),
        (500, {"message": "?"}, Disposition.IN_DOUBT),
        (200, failed("INSUFFICIENT_CREDITS"), Disposition.NO_CREDITS),
        (200, failed("INTERNAL_ERROR"), Disposition.IN_DOUBT),
        (200, failed("OUT_OF_COFFEE"), Disposition.IN_DOUBT),
        (302, failed("OUT_OF_COFFEE"), Disposition.IN_DOUBT),
        (200, b"<html></html>", Disposition.IN_DOUBT),
        (200, {"success": True}, Disposition.IN_DOUBT),
        (200, {"success": True, "data": {"results": {}}}, Disposition.IN_DOUBT),
        (302, b"", Disposition.IN_DOUBT),
    ],
)
def test_only_documented_failures_are_read_as_free(
    status: int, content: Any, disposition: Disposition
) -> None:
    reply = AGNTDATA.read(call(item("r1", "record")), response(content, status))
    assert reply.disposition is disposition
    assert reply.answers == ()
    assert reply.reason


def test_waiting_time_comes_from_the_header_or_the_body() -> None:
    sent = call(item("r1", "record"))
    limited = failed("RATE_LIMITED", retryAfter=12)
    assert AGNTDATA.read(sent, response(limited, 429)).retry_after == 12.0
    assert AGNTDATA.read(sent, response(limited, 429, {"retry-after": "3"})).retry_after == 3.0
    assert AGNTDATA.read(sent, response(failed("RATE_LIMITED"), 429)).retry_after is None


def test_balance_is_read_in_micro_cents() -> None:
    assert AGNTDATA.balance_request().path == "/credits"
    assert AGNTDATA.read_balance(response({"purchasedBalanceCents": 949})) == 949_000_000
    nested = {"success": True, "data": {"purchasedBalanceCents": 949}}
    assert AGNTDATA.read_balance(response(nested)) == 949_000_000
    assert AGNTDATA.read_balance(response({"purchasedBalanceCents": "?"})) is None
    assert AGNTDATA.read_balance(response(b"<html>")) is None


@settings(max_examples=300, deadline=None)
@given(
    raw=mutated_json(body(record("r1"), record("r2", matched=False, person=None))),
    status=st.sampled_from([200, 200, 400, 500]),
    is_positional=st.booleans(),
)
def test_any_mutation_is_read_without_an_exception(
    raw: bytes, status: int, is_positional: bool
) -> None:
    agntdata = Agntdata(AgntdataOptions(allow_positional=is_positional))
    inputs = person(email="a@b.com", consent=True)
    sent = call(item("r1", "record", inputs=inputs), item("r2", "record"), group="personal_email")
    answers(agntdata.read(sent, HttpResponse(status, {}, raw)))
    agntdata.read_balance(HttpResponse(200, {}, raw))
