"""What Prospeo's documents say, held against the adapter."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.providers.prospeo import Prospeo, ProspeoOptions
from enrich_pipeline.providers.protocol import Disposition, HttpResponse, InDoubtPolicy, Verdict
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

PROSPEO = Prospeo(ProspeoOptions())
MATCH, MOBILE = PROSPEO.offers(consented=False)
BOTH = ("match", "mobile")

PERSON: dict[str, Any] = {
    "person_id": "6f745841665155f554e5",
    "first_name": "Eva",
    "last_name": "Kiegler",
    "full_name": "Eva Kiegler",
    "linkedin_url": "https://www.linkedin.com/in/eva-kiegler",
    "current_job_title": "Head of Support",
    "location": {"country": "Ireland", "state": None, "city": "Dublin"},
    "email": {
        "status": "VERIFIED",
        "revealed": True,
        "email": "Eva.Kiegler@intercom.com",
        "verification_method": "SMTP",
    },
    "mobile": {
        "status": "VERIFIED",
        "revealed": True,
        "mobile": "+14155550123",
        "mobile_national": "(415) 555-0123",
    },
}
COMPANY = {"company_id": "c1", "name": "Intercom", "website": "https://www.intercom.com"}


def body(*, matched: Any = (), missed: Any = (), invalid: Any = (), cost: Any = 10) -> Any:
    return {
        "error": False,
        "total_cost": cost,
        "not_matched": list(missed),
        "invalid_datapoints": list(invalid),
        "matched": list(matched),
    }


def match(identifier: str, **changes: Any) -> Any:
    return {"identifier": identifier, "person": {**PERSON, **changes}, "company": COMPANY}


def test_declarations_are_coherent() -> None:
    assert declaration_problems(Prospeo) == []
    assert PROSPEO.in_doubt is InDoubtPolicy.FREE_REREAD
    assert (MATCH.fields, MOBILE.fields) == (
        (Field.WORK_EMAIL, Field.PROFILE),
        (Field.PHONE,),
    )
    assert not MATCH.repeat_is_charged
    assert MOBILE.brings == ("match",)


@pytest.mark.parametrize(
    "known",
    [
        {"first_name": "E", "last_name": "K", "company_domain": "intercom.com"},
        {"first_name": "E", "last_name": "K", "company_linkedin": "https://x"},
        {"full_name": "E K", "company_domain": "intercom.com"},
        {"full_name": "E K", "company_linkedin": "https://x"},
        {"linkedin": "eva-kiegler"},
        {"email": "eva@intercom.com"},
        {"prospeo_id": "6f745841665155f554e5"},
    ],
)
def test_each_documented_minimum_is_eligible(known: dict[str, Any]) -> None:
    assert MATCH.is_eligible(person(**known))
    for missing in known:
        rest = {name: value for name, value in known.items() if name != missing}
        assert not rest or not MATCH.is_eligible(person(**rest))


def test_company_name_alone_is_asked_with_only_when_allowed() -> None:
    known = person(first_name="E", last_name="K", full_name="E K", company_name="Deloitte")
    assert not MATCH.is_eligible(known)
    allowing = Prospeo(ProspeoOptions(allow_company_name_only=True))
    assert all(offer.is_eligible(known) for offer in allowing.offers(consented=True))


def test_persons_with_and_without_mobile_go_into_two_groups() -> None:
    assert PROSPEO.groups([MATCH]) == (("", (MATCH,)),)
    assert PROSPEO.groups([MATCH, MOBILE]) == (("mobile", (MATCH, MOBILE)),)
    assert PROSPEO.groups([]) == ()


def test_request_sends_everything_known_and_never_only_verified() -> None:
    inputs = person(
        first_name="Jonah",
        last_name="Stones",
        full_name="Jonah Stones",
        linkedin="jonah-stones",
        email="j@deloitte.com",
        company_name="Deloitte",
        company_domain="deloitte.com",
        company_linkedin="https://www.linkedin.com/company/deloitte",
        prospeo_id="6f56",
        country="US",
    )
    sent = PROSPEO.request(call(item("a1", *BOTH, inputs=inputs), group="mobile"))
    assert (sent.method, sent.path) == ("POST", "/bulk-enrich-person")
    assert sent.json == {
        "only_verified_email": False,
        "enrich_mobile": True,
        "only_verified_mobile": False,
        "data": [
            {
                "identifier": "a1",
                "first_name": "Jonah",
                "last_name": "Stones",
                "full_name": "Jonah Stones",
                "email": "j@deloitte.com",
                "company_name": "Deloitte",
                "company_website": "deloitte.com",
                "company_linkedin_url": "https://www.linkedin.com/company/deloitte",
                "person_id": "6f56",
                "linkedin_url": "https://www.linkedin.com/in/jonah-stones",
            }
        ],
    }


def test_three_lists_become_one_verdict_for_each_product() -> None:
    sent = call(*(item(key, *BOTH) for key in ("1", "2", "4")), group="mobile")
    reply = PROSPEO.read(sent, response(body(matched=[match("1")], missed=["2"], invalid=["4"])))
    assert reply.disposition is Disposition.ANSWERED
    assert reply.cost_micro == 10_000_000
    assert reply.anomalies == ()
    verdicts = {line: answer.verdict for line, answer in answers(reply).items()}
    assert verdicts == {
        ("1", "match"): Verdict.FOUND,
        ("1", "mobile"): Verdict.FOUND,
        ("2", "match"): Verdict.NOT_FOUND,
        ("2", "mobile"): Verdict.NOT_FOUND,
        ("4", "match"): Verdict.INVALID_INPUT,
        ("4", "mobile"): Verdict.INVALID_INPUT,
    }
    assert values(answers(reply)["1", "match"]) == {
        "work_email": ("eva.kiegler@intercom.com", "verified"),
        "job_title": ("Head of Support", "unknown"),
        "company_name": ("Intercom", "unknown"),
        "company_domain": ("intercom.com", "unknown"),
        "linkedin_url": ("https://www.linkedin.com/in/eva-kiegler", "unknown"),
        "location": ("Dublin, Ireland", "unknown"),
    }
    assert values(answers(reply)["1", "mobile"]) == {"phone": ("+14155550123", "verified")}
    subject = answers(reply)["1", "mobile"].subject
    assert (subject.full_name, subject.linkedin) == ("Eva Kiegler", "eva-kiegler")
    assert subject.provider_id == "6f745841665155f554e5"


def test_total_cost_is_read_and_never_computed() -> None:
    sent = call(item("1", "match"))
    assert PROSPEO.read(sent, response(body(matched=[match("1")], cost=0))).cost_micro == 0
    without = PROSPEO.read(sent, response({"error": False, "matched": [match("1")]}))
    assert without.cost_micro is None
    for absurd in (-1, True, "ten", 1_000_001, [1]):
        reply = PROSPEO.read(sent, response(body(matched=[match("1")], cost=absurd)))
        assert reply.cost_micro is None
        assert reply.anomalies == ("unreadable_cost:1",)
        assert len(reply.answers) == 1
    nan = json.dumps(body(matched=[match("1")], cost=float("nan"))).encode()
    assert PROSPEO.read(sent, response(nan)).anomalies == ("unreadable_cost:1",)


@pytest.mark.parametrize(
    ("mobile", "verdict", "reason"),
    [
        ({"status": "VERIFIED", "revealed": False, "mobile": None}, "filtered", "not_revealed"),
        (
            {"status": "VERIFIED", "revealed": False, "mobile": "+1 415-3**-****"},
            "filtered",
            "not_revealed",
        ),
        (
            {"status": "VERIFIED", "revealed": False, "mobile": "+14155550123"},
            "filtered",
            "not_revealed",
        ),
        (
            {"status": "VERIFIED", "revealed": True, "mobile": "+1 415-3**-****"},
            "not_found",
            "no_mobile",
        ),
        (
            {"status": "UNAVAILABLE", "revealed": False, "mobile": None},
            "not_found",
            "no_mobile",
        ),
        (
            {"status": None, "revealed": None, "mobile": None},
            "not_found",
            "no_mobile",
        ),
        (None, "not_found", "no_mobile"),
    ],
)
def test_masked_or_unrevealed_mobile_is_never_a_value(
    mobile: Any, verdict: str, reason: str
) -> None:
    reply = PROSPEO.read(
        call(item("1", *BOTH), group="mobile"), response(body(matched=[match("1", mobile=mobile)]))
    )
    answer = answers(reply)["1", "mobile"]
    assert (answer.verdict.value, answer.reason, answer.values) == (verdict, reason, ())
    assert answers(reply)["1", "match"].verdict is Verdict.FOUND


@pytest.mark.parametrize(
    "email",
    [
        {"status": "VERIFIED", "revealed": False, "email": "eva@intercom.com"},
        {"status": "VERIFIED", "revealed": True, "email": "e**@intercom.com"},
        {"status": "VERIFIED", "revealed": True, "email": "nonsense"},
        {"status": "UNAVAILABLE", "revealed": True, "email": None},
        None,
    ],
)
def test_unusable_email_leaves_the_profile_found(email: Any) -> None:
    reply = PROSPEO.read(
        call(item("1", "match")), response(body(matched=[match("1", email=email)]))
    )
    answer = answers(reply)["1", "match"]
    assert answer.verdict is Verdict.FOUND
    assert "work_email" not in values(answer)


def test_match_without_any_value_is_a_miss_that_keeps_its_cost() -> None:
    bare = {"identifier": "1", "person": {"full_name": "Eva Kiegler"}, "company": None}
    reply = PROSPEO.read(call(item("1", "match")), response(body(matched=[bare], cost=1)))
    answer = answers(reply)["1", "match"]
    assert (answer.verdict, answer.reason) == (Verdict.NOT_FOUND, "matched_no_data")
    assert reply.cost_micro == 1_000_000


def test_unknown_status_word_is_unknown_and_counted() -> None:
    email = {**PERSON["email"], "status": "Rock solid!"}
    reply = PROSPEO.read(
        call(item("1", "match")), response(body(matched=[match("1", email=email)]))
    )
    assert values(answers(reply)["1", "match"])["work_email"][1] == "unknown"
    assert reply.anomalies == ("unmapped_status:rock_solid",)


def test_missing_unknown_and_doubled_identifiers_are_counted_not_guessed() -> None:
    sent = call(*(item(key, "match") for key in ("1", "2", "3")))
    reply = PROSPEO.read(
        sent, response(body(matched=[match("1"), match("1"), match("9")], missed=["1", "2", None]))
    )
    assert set(answers(reply)) == {("1", "match"), ("2", "match")}
    assert reply.anomalies == (
        "duplicate_identifier:2",
        "missing_identifier:1",
        "unknown_identifier:2",
    )


def test_item_with_wrong_types_gets_no_verdict_of_a_miss() -> None:
    sent = call(item("1", *BOTH), item("2", *BOTH), group="mobile")
    damaged = match("1", mobile="not an object")
    reply = PROSPEO.read(sent, response(body(matched=[damaged, "x"], missed=["2"])))
    assert answers(reply)["1", "match"].verdict is Verdict.FOUND
    assert ("1", "mobile") not in answers(reply)
    assert "unreadable_item:2" in reply.anomalies


@pytest.mark.parametrize(
    ("status", "code", "disposition"),
    [
        (400, "INSUFFICIENT_CREDITS", Disposition.NO_CREDITS),
        (401, "INVALID_API_KEY", Disposition.UNAUTHORIZED),
        (429, "RATE_LIMITED", Disposition.THROTTLED),
        (429, "RATE_LIMIT_EXCEEDED", Disposition.THROTTLED),
        (400, "INVALID_REQUEST", Disposition.INVALID),
        (400, "INTERNAL_ERROR", Disposition.IN_DOUBT),
        (403, "ACCOUNT_RESTRICTED", Disposition.REFUSED),
        (400, "SOMETHING_NEW", Disposition.IN_DOUBT),
    ],
)
def test_error_code_decides_whatever_the_status(
    status: int, code: str, disposition: Disposition
) -> None:
    for seen in (status, 200, 500):
        reply = PROSPEO.read(
            call(item("1", "match")), response({"error": True, "error_code": code}, seen)
        )
        assert reply.disposition is disposition
        is_known = code != "SOMETHING_NEW"
        assert reply.reason == (code.lower() if is_known else f"http_{seen}")
        assert reply.anomalies == (() if is_known else ("unknown_error_code:1",))
        assert reply.answers == ()


def test_no_match_for_the_whole_call_is_a_miss_of_each_person() -> None:
    sent = call(item("1", *BOTH), item("2", "match"))
    reply = PROSPEO.read(sent, response({"error": True, "error_code": "NO_MATCH"}, 400))
    assert reply.disposition is Disposition.ANSWERED
    assert {answer.verdict for answer in reply.answers} == {Verdict.NOT_FOUND}
    assert len(reply.answers) == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 1.0),
        ({"x-minute-request-left": "3", "x-minute-reset-seconds": "40"}, 1.0),
        ({"x-minute-request-left": "0", "x-minute-reset-seconds": "40"}, 40.0),
        (
            {
                "x-minute-request-left": "0",
                "x-minute-reset-seconds": "40",
                "x-daily-request-left": "0",
                "x-daily-reset-seconds": "3600",
            },
            3600.0,
        ),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon", "x-minute-request-left": "junk"}, 1.0),
    ],
)
def test_throttled_call_waits_for_the_window_that_is_used_up(
    headers: dict[str, str], seconds: float
) -> None:
    throttled = {"error": True, "error_code": "RATE_LIMITED"}
    reply = PROSPEO.read(call(item("1", "match")), response(throttled, 429, headers))
    assert (reply.disposition, reply.retry_after) == (Disposition.THROTTLED, seconds)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Too Many Requests</html>",
        b"",
        {"message": "slow down"},
        {"error": True},
        {"error": True, "error_code": "SOMETHING_NEW"},
        {"error": False},
    ],
)
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 1.0),
        ({"x-minute-request-left": "0", "x-minute-reset-seconds": "40"}, 40.0),
        ({"retry-after": "7"}, 7.0),
    ],
)
def test_429_waits_for_the_window_whatever_its_body(
    content: Any, headers: dict[str, str], seconds: float
) -> None:
    reply = PROSPEO.read(call(item("1", "match")), response(content, 429, headers))
    assert (reply.disposition, reply.retry_after) == (Disposition.THROTTLED, seconds)
    assert reply.answers == ()


@pytest.mark.parametrize(
    "bad",
    [
        response(b"<html>502 Bad Gateway</html>", 502),
        response(b"<html>hello</html>"),
        response(b""),
        response(json.dumps(body(matched=[match("1")])).encode()[:-20]),
        response([1, 2]),
        response({}),
        response({"error": False}),
        response({**body(), "matched": "lots"}),
        response(body(matched=[match("1")]), 500),
        response(b"[" * 100_000),
        response(b'{"error": false, "total_cost": 1' + b"0" * 5_000 + b', "matched": []}'),
        HttpResponse(200, {}, json.dumps(body(matched=[match("1")])).encode(), truncated=True),
    ],
)
def test_what_cannot_be_understood_is_in_doubt(bad: HttpResponse) -> None:
    reply = PROSPEO.read(call(item("1", "match")), bad)
    assert reply.disposition is Disposition.IN_DOUBT
    assert reply.reason


def test_balance_is_read_in_micro_credits() -> None:
    assert PROSPEO.balance_request().path == "/account-information"
    good = {"error": False, "response": {"remaining_credits": 99, "plan": "x"}}
    assert PROSPEO.read_balance(response(good)) == 99_000_000
    unreadable: list[Any] = [{"error": True}, {"response": 1}, []]
    for bad in (*unreadable, {"response": {"remaining_credits": "x"}}):
        assert PROSPEO.read_balance(response(bad)) is None


@settings(max_examples=300, deadline=None)
@given(raw=mutated_json(body(matched=[match("1")], missed=["2"], invalid=["4"])), data=st.data())
def test_any_mutation_is_read_without_an_exception(raw: bytes, data: st.DataObject) -> None:
    sent = call(*(item(key, *BOTH) for key in ("1", "2", "4")), group="mobile")
    status = data.draw(st.sampled_from([200, 200, 400, 500]))
    reply = PROSPEO.read(sent, HttpResponse(status, {}, raw))
    answers(reply)
    PROSPEO.read_balance(HttpResponse(200, {}, raw))
    for answer in reply.answers:
        for value in answer.values:
            assert value.value.isprintable()
            assert "*" not in value.value or value.attribute.value not in ("phone", "work_email")
