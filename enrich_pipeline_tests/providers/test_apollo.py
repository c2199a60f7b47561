"""What Apollo's documents say, held against the adapter: the reply, deliveries and polls."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.providers.apollo import Apollo, ApolloOptions
from enrich_pipeline.providers.protocol import (
    Call,
    Disposition,
    HttpRequest,
    HttpResponse,
    InDoubtPolicy,
    Item,
    Reply,
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

APOLLO = Apollo(ApolloOptions())
WATERFALL = Apollo(
    ApolloOptions(run_waterfall_email=True, run_waterfall_phone=True, max_credits_per_record=30)
)
ID1, ID2 = "64a7ff0cc4dfae00013df1a5", "587cf802f65125cad923a266"
JOB = 1039995589705121900

MATCH: dict[str, Any] = {
    "id": ID1,
    "first_name": "Tim",
    "last_name": "Zheng",
    "name": "Tim Zheng",
    "linkedin_url": "http://www.linkedin.com/in/tim-zheng",
    "title": "Founder & CEO",
    "email": "tim@apollo.io",
    "email_status": "verified",
    "city": "San Francisco",
    "state": "California",
    "country": "United States",
    "organization": {"name": "Apollo.io", "primary_domain": "apollo.io"},
    "employment_history": [{"title": "x"}],
}


def sync(*matches: Any, credits: Any = 1, **more: Any) -> Any:
    return {
        "request_id": JOB,
        "status": "success",
        "error_code": None,
        "error_message": None,
        "total_requested_enrichments": len(matches),
        "unique_enriched_records": 1,
        "missing_records": 0,
        "credits_consumed": credits,
        "matches": list(matches),
        **more,
    }


PENDING = {"phone_enrichment": {"request_id": str(JOB), "status": "pending", "message": "m"}}


def number(written: str = "+15555550164", **changes: Any) -> Any:
    made = {
        "raw_number": "+1 555-555-0164",
        "sanitized_number": written,
        "type_cd": "other",
        "status_cd": "valid_number",
        "confidence_cd": "high",
        "dnc_status_cd": "not_found",
        "position": 0,
    }
    return {**made, **changes}


NUMBER = number("+14155550123")


def phones(*people: Any, total: Any = None, credits: Any = 8, **more: Any) -> Any:
    return {
        "status": "success",
        "total_requested_enrichments": len(people) if total is None else total,
        "unique_enriched_records": 1,
        "missing_records": 0,
        "credits_consumed": credits,
        "people": list(people),
        **more,
    }


def owner(apollo_id: str, *numbers: Any) -> Any:
    return {"id": apollo_id, "status": "success", "phone_numbers": list(numbers)}


def known(key: str, apollo_id: str, *products: str) -> Item:
    return item(key, *products, inputs=person(linkedin=f"p-{key}", apollo_id=apollo_id))


def deliver(sent: Call, body: Any, provider: Apollo = APOLLO) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return provider.read_delivery(sent, raw)


def polled(sent: Call, reply: HttpResponse, provider: Apollo = APOLLO) -> Reply:
    conversation = provider.poll(sent)
    assert conversation is not None
    assert next(conversation) == (HttpRequest("GET", f"/webhook_result/{sent.job_id}"),)
    with pytest.raises(StopIteration) as end:
        conversation.send((reply,))
    result = end.value.value
    assert isinstance(result, Reply)
    return result


TWO = call(
    known("a", ID1, "match", "mobile"),
    known("b", ID2, "match", "mobile"),
    group="mobile",
    webhook=True,
    job_id=str(JOB),
)
ONE = call(item("a", "match", "mobile"), group="mobile", webhook=True, job_id=str(JOB))


# ------------------------------------------------------------------------------- declarations


def test_declarations_are_coherent() -> None:
    assert declaration_problems(Apollo) == []
    assert APOLLO.in_doubt is InDoubtPolicy.AT_MOST_ONCE
    assert APOLLO.limits.maximum == 10
    assert [offer.product for offer in APOLLO.offers(consented=False)] == ["match", "mobile"]
    mobile = APOLLO.offers(consented=False)[1]
    assert (mobile.brings, mobile.needs_webhook) == (("match",), True)
    assert APOLLO.cap_micro("mobile") is None


def test_waterfalls_are_off_by_default_and_need_a_bound() -> None:
    with pytest.raises(ValidationError, match="need max_credits_per_record"):
        ApolloOptions(run_waterfall_email=True)
    with pytest.raises(ValidationError, match="need max_credits_per_record"):
        ApolloOptions(run_waterfall_phone=True)
    assert WATERFALL.cap_micro("waterfall_email") == 30_000_000
    assert WATERFALL.cap_micro("match") is None


@pytest.mark.parametrize("provider", [APOLLO, WATERFALL])
def test_each_field_is_sold_by_one_product(provider: Apollo) -> None:
    for consented in (False, True):
        offers = provider.offers(consented=consented)
        fields = [field for offer in offers for field in offer.fields]
        assert len(fields) == len(set(fields))
        assert (Field.PERSONAL_EMAIL in fields) is consented
    no_consent = provider.unavailable(Field.PERSONAL_EMAIL, consented=False)
    assert no_consent is Unavailable.NO_CONSENT


@pytest.mark.parametrize(
    "inputs",
    [
        {"linkedin": "tim-zheng"},
        {"email": "tim@apollo.io"},
        {"apollo_id": ID1},
        {"first_name": "T", "last_name": "Z", "company_domain": "apollo.io"},
        {"first_name": "T", "last_name": "Z", "company_name": "Apollo"},
        {"full_name": "T Z", "company_domain": "apollo.io"},
    ],
)
def test_eligible_by_identifier_or_name_with_company(inputs: dict[str, Any]) -> None:
    assert all(offer.is_eligible(person(**inputs)) for offer in APOLLO.offers(consented=False))


def test_name_alone_is_not_eligible() -> None:
    nameless = person(first_name="T", last_name="Z", full_name="T Z", country="US")
    assert not APOLLO.offers(consented=False)[0].is_eligible(nameless)


def test_groups_part_calls_by_phone_and_by_consent() -> None:
    plain, mobile = APOLLO.offers(consented=False)
    personal, _ = APOLLO.offers(consented=True)
    assert [APOLLO.groups(chosen)[0][0] for chosen in ([plain], [plain, mobile])] == ["", "mobile"]
    assert APOLLO.groups([personal])[0][0] == "personal_email"
    assert APOLLO.groups([personal, mobile])[0][0] == "mobile+personal_email"
    assert APOLLO.groups([]) == ()


# ------------------------------------------------------------------------------------ requests


def test_request_without_flags_has_no_query_at_all() -> None:
    inputs = person(
        first_name="Tim",
        last_name="Zheng",
        full_name="Tim Zheng",
        email="tim@apollo.io",
        linkedin="tim-zheng",
        company_name="Apollo.io",
        company_domain="apollo.io",
        apollo_id=ID1,
        prospeo_id="6f56",
    )
    sent = APOLLO.request(call(item("a", "match", inputs=inputs), webhook=True))
    assert (sent.method, sent.path, sent.params) == ("POST", "/people/bulk_match", {})
    assert sent.json == {
        "details": [
            {
                "id": ID1,
                "first_name": "Tim",
                "last_name": "Zheng",
                "name": "Tim Zheng",
                "email": "tim@apollo.io",
                "organization_name": "Apollo.io",
                "domain": "apollo.io",
                "linkedin_url": "https://www.linkedin.com/in/tim-zheng",
            }
        ]
    }


@pytest.mark.parametrize(
    ("group", "flags"),
    [
        ("personal_email", {"reveal_personal_emails"}),
        ("mobile", {"reveal_phone_number", "webhook_url"}),
        (
            "mobile+personal_email",
            {"reveal_phone_number", "reveal_personal_emails", "webhook_url"},
        ),
        ("waterfall_email", {"run_waterfall_email", "webhook_url"}),
        (
            "waterfall_email+waterfall_phone",
            {"run_waterfall_email", "run_waterfall_phone", "webhook_url"},
        ),
    ],
)
def test_webhook_url_goes_only_with_phone_or_waterfall_flags(group: str, flags: set[str]) -> None:
    sent = APOLLO.request(call(item("a", "match"), group=group, webhook=True))
    assert set(sent.params) == flags
    if "webhook_url" in flags:
        assert sent.params["webhook_url"].startswith("https://hooks.example.com/")
        with pytest.raises(ValueError, match="webhook URL"):
            APOLLO.request(call(item("a", "match"), group=group))


# ------------------------------------------------------------------------- the synchronous part


def test_positions_answer_and_null_is_a_miss() -> None:
    sent = call(item("a", "match"), item("b", "match"))
    reply = APOLLO.read(sent, response(sync(MATCH, None)))
    assert reply.disposition is Disposition.ANSWERED
    assert (reply.cost_micro, reply.job_id) == (1_000_000, str(JOB))
    assert not reply.webhook_will_come
    assert reply.anomalies == ()
    assert values(answers(reply)["a", "match"]) == {
        "work_email": ("tim@apollo.io", "verified"),
        "job_title": ("Founder & CEO", "unknown"),
        "company_name": ("Apollo.io", "unknown"),
        "company_domain": ("apollo.io", "unknown"),
        "linkedin_url": ("https://www.linkedin.com/in/tim-zheng", "unknown"),
        "location": ("San Francisco, California, United States", "unknown"),
    }
    subject = answers(reply)["a", "match"].subject
    assert (subject.provider_id, subject.linkedin) == (ID1, "tim-zheng")
    assert answers(reply)["b", "match"].verdict is Verdict.NOT_FOUND


def test_match_is_final_and_mobile_pending_until_delivery() -> None:
    reply = APOLLO.read(TWO, response(sync(MATCH, None, **PENDING)))
    assert reply.disposition is Disposition.ACCEPTED
    assert reply.webhook_will_come
    verdicts = {line: answer.verdict for line, answer in answers(reply).items()}
    assert verdicts == {
        ("a", "match"): Verdict.FOUND,
        ("a", "mobile"): Verdict.PENDING,
        ("b", "match"): Verdict.NOT_FOUND,
        ("b", "mobile"): Verdict.NOT_FOUND,
    }
    assert answers(reply)["a", "mobile"].subject.provider_id == ID1


def test_skipped_phone_enrichment_means_no_webhook() -> None:
    skipped = {"phone_enrichment": {"request_id": None, "status": "skipped"}}
    reply = APOLLO.read(ONE, response(sync(MATCH, **skipped)))
    assert reply.disposition is Disposition.ANSWERED
    assert not reply.webhook_will_come
    assert answers(reply)["a", "mobile"].verdict is Verdict.FAILED
    assert answers(reply)["a", "match"].verdict is Verdict.FOUND


def test_phone_with_an_unknown_word_is_still_waited_for() -> None:
    reply = APOLLO.read(ONE, response(sync(MATCH, phone_enrichment={"status": "enqueued"})))
    assert answers(reply)["a", "mobile"].verdict is Verdict.PENDING
    assert reply.anomalies == ("unmapped_phone_enrichment:enqueued",)


def test_call_in_which_nobody_matched_awaits_nothing() -> None:
    reply = APOLLO.read(TWO, response(sync(None, None, credits=0, **PENDING)))
    assert reply.disposition is Disposition.ANSWERED
    assert not reply.webhook_will_come
    assert reply.cost_micro == 0


@pytest.mark.parametrize(("status", "verdict"), [("accepted", "pending"), ("rejected", "failed")])
def test_waterfall_is_on_its_way_only_when_accepted(status: str, verdict: str) -> None:
    sent = call(item("a", "match", "waterfall_email"), group="waterfall_email", webhook=True)
    reply_body = sync(
        {**MATCH, "email": None, "email_status": None}, waterfall={"status": status, "message": "m"}
    )
    del reply_body["credits_consumed"]
    reply = WATERFALL.read(sent, response(reply_body))
    assert answers(reply)["a", "waterfall_email"].verdict.value == verdict
    assert reply.webhook_will_come is (verdict == "pending")
    assert reply.cost_micro is None


def test_absent_cost_is_not_zero_and_fractions_are_exact() -> None:
    sent = call(item("a", "match"))
    assert APOLLO.read(sent, response(sync(MATCH, credits=None))).cost_micro is None
    assert APOLLO.read(sent, response(sync(MATCH, credits=0))).cost_micro == 0
    assert APOLLO.read(sent, response(sync(MATCH, credits=1.1))).cost_micro == 1_100_000
    assert APOLLO.read(sent, response(sync(MATCH, credits="0.25"))).cost_micro == 250_000
    absurd = APOLLO.read(sent, response(sync(MATCH, credits=-3)))
    assert (absurd.cost_micro, absurd.anomalies) == (None, ("unreadable_cost:1",))


def test_negative_request_id_keeps_all_its_digits() -> None:
    sent = call(item("a", "match"))
    reply = APOLLO.read(sent, response({**sync(MATCH), "request_id": -9223372036854775807}))
    assert reply.job_id == "-9223372036854775807"
    hostile = APOLLO.read(sent, response({**sync(MATCH), "request_id": "../x?y"}))
    assert (hostile.job_id, hostile.anomalies) == (None, ("unreadable_job_id:1",))


def test_personal_emails_need_the_flag_and_the_consent() -> None:
    match = {**MATCH, "personal_emails": ["Tim@Gmail.com", "bad", 3, None]}
    for group, consent, kept in (
        ("personal_email", True, True),
        ("personal_email", False, False),
        ("", True, False),
    ):
        inputs = person(linkedin="tim-zheng", consent=consent)
        reply = APOLLO.read(
            call(item("a", "match", inputs=inputs), group=group), response(sync(match))
        )
        found = values(answers(reply)["a", "match"])
        assert (found.get("personal_email") == ("tim@gmail.com", "unknown")) is kept
        assert ("personal_email" in found) is kept


@pytest.mark.parametrize(
    ("email", "status", "expected"),
    [
        ("email_not_unlocked@domain.com", "verified", None),
        (None, "unavailable", None),
        ("t@apollo.io", "unverified", ("t@apollo.io", "unverified")),
        ("t@apollo.io", "extrapolated", ("t@apollo.io", "unverified")),
        ("t@apollo.io", None, ("t@apollo.io", "unknown")),
        ("t@apollo.io", "likely to engage", ("t@apollo.io", "unknown")),
        ("t@apollo.io", "invalid", ("t@apollo.io", "invalid")),
    ],
)
def test_email_statuses(email: Any, status: Any, expected: Any) -> None:
    match = {**MATCH, "email": email, "email_status": status}
    reply = APOLLO.read(call(item("a", "match")), response(sync(match)))
    assert values(answers(reply)["a", "match"]).get("work_email") == expected


def test_unequal_lengths_are_joined_by_identifiers_or_left_in_doubt() -> None:
    sent = call(
        item("a", "match", inputs=person(linkedin="someone-else")),
        item("b", "match", inputs=person(linkedin="tim-zheng")),
        item("c", "match", inputs=person(email="lee@x.com")),
    )
    lee = {**MATCH, "id": ID2, "linkedin_url": None, "email": "Lee@x.com"}
    reply = APOLLO.read(sent, response(sync(lee, MATCH)))
    assert reply.disposition is Disposition.ANSWERED
    assert set(answers(reply)) == {("b", "match"), ("c", "match")}
    assert reply.anomalies == ("length_mismatch:1", "missing_identifier:1")
    nobody = APOLLO.read(sent, response(sync({**MATCH, "id": None, "linkedin_url": None})))
    assert (nobody.disposition, nobody.reason) == (Disposition.IN_DOUBT, "length_mismatch")
    assert nobody.answers == ()


def test_unreadable_match_is_no_miss() -> None:
    sent = call(item("a", "match"), item("b", "match"))
    reply = APOLLO.read(sent, response(sync("what", {"id": ID1, "title": 7})))
    assert reply.answers == ()
    assert "unreadable_item:2" in reply.anomalies


def test_match_without_confidence_is_a_miss() -> None:
    sent = call(item("a", "match"))
    reply = APOLLO.read(sent, response(sync({**MATCH, "match_confidence": "none"})))
    assert answers(reply)["a", "match"].verdict is Verdict.NOT_FOUND
    low = APOLLO.read(sent, response(sync({**MATCH, "match_confidence": "low"})))
    assert answers(low)["a", "match"].verdict is Verdict.FOUND


@pytest.mark.parametrize(
    ("status", "content", "disposition"),
    [
        (401, b"Invalid access credentials.", Disposition.UNAUTHORIZED),
        (403, {"error_code": "API_INACCESSIBLE", "error": "x"}, Disposition.REFUSED),
        (403, b"<html></html>", Disposition.IN_DOUBT),
        (400, {"status": "failed", "error_code": "INVALID_REQUEST"}, Disposition.INVALID),
        (400, {"status": "failed", "error_code": "RECORD_LIMIT_EXCEEDED"}, Disposition.INVALID),
        (400, {"status": "failed", "error_code": "NEW"}, Disposition.IN_DOUBT),
        (422, {"error_code": "UNKNOWN_ERROR", "error_message": "x"}, Disposition.INVALID),
        (422, {"error": "Insufficient credits to proceed"}, Disposition.NO_CREDITS),
        (429, {"message": "The maximum number of api calls"}, Disposition.THROTTLED),
        (500, {"error_message": "x"}, Disposition.IN_DOUBT),
        (502, b"<html></html>", Disposition.IN_DOUBT),
        (200, b"<html></html>", Disposition.IN_DOUBT),
        (200, {"status": "success"}, Disposition.IN_DOUBT),
        (200, {"matches": {}}, Disposition.IN_DOUBT),
        (200, [], Disposition.IN_DOUBT),
    ],
)
def test_only_documented_failures_are_read_as_free(
    status: int, content: Any, disposition: Disposition
) -> None:
    reply = APOLLO.read(call(item("a", "match")), response(content, status))
    assert reply.disposition is disposition
    assert reply.answers == ()
    assert reply.reason


def test_throttled_reply_says_how_long() -> None:
    reply = APOLLO.read(ONE, response({"message": "m"}, 429, {"retry-after": "24"}))
    assert reply.retry_after == 24.0


# ----------------------------------------------------------------------------------- deliveries


def test_delivered_phones_join_by_the_id_of_the_synchronous_part() -> None:
    body = phones(owner(ID2, NUMBER), owner(ID1, number("+442079460958")), credits=16)
    reply = deliver(TWO, body)
    assert reply.cost_micro == 16_000_000
    assert values(answers(reply)["b", "mobile"]) == {"phone": ("+14155550123", "verified")}
    assert values(answers(reply)["a", "mobile"]) == {"phone": ("+442079460958", "verified")}
    assert answers(reply)["b", "mobile"].values[0].confidence == "dnc:not_found"
    assert ("a", "match") not in answers(reply)
    assert reply.anomalies == ()


def test_lone_item_needs_no_known_id() -> None:
    reply = deliver(ONE, phones(owner(ID2, NUMBER)))
    assert reply.disposition is Disposition.ANSWERED
    assert answers(reply)["a", "mobile"].verdict is Verdict.FOUND
    assert answers(reply)["a", "mobile"].subject.provider_id == ID2


def test_delivery_for_a_stranger_answers_nothing() -> None:
    alone = call(known("a", ID1, "match", "mobile"), group="mobile", webhook=True)
    reply = deliver(alone, phones(owner(ID2, NUMBER)))
    assert (reply.answers, reply.disposition) == ((), Disposition.ACCEPTED)
    assert reply.anomalies == ("unknown_identifier:1",)


def test_two_contacts_of_one_human_share_a_delivery() -> None:
    twins = call(known("a", ID1, "mobile"), known("b", ID1, "mobile"), group="mobile", webhook=True)
    reply = deliver(twins, phones(owner(ID1, NUMBER)))
    assert {answer.verdict for answer in reply.answers} == {Verdict.FOUND}
    assert len(reply.answers) == 2


def test_persons_left_out_are_misses_only_when_the_delivery_covers_the_call() -> None:
    covering = deliver(TWO, phones(owner(ID1, NUMBER), total=2))
    assert answers(covering)["b", "mobile"].verdict is Verdict.NOT_FOUND
    assert covering.disposition is Disposition.ANSWERED
    partial = deliver(TWO, phones(owner(ID1, NUMBER), total=1))
    assert set(answers(partial)) == {("a", "mobile")}
    assert partial.disposition is Disposition.ACCEPTED


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ([], "not_found"),
        ([number("+14155550123", status_cd="invalid_number")], "not_found"),
        ([number("+14155550123", type_cd="work_hq")], "not_found"),
        ([number("+1415***0123")], "not_found"),
        ([number("12", raw_number=None)], "not_found"),
        ([number("+14155550123", status_cd="new_word")], "found"),
        ([number("", raw_number="+1 415-555-0123")], "found"),
    ],
)
def test_only_usable_numbers_are_found(numbers: list[Any], verdict: str) -> None:
    reply = deliver(ONE, phones(owner(ID1, *numbers)))
    assert answers(reply)["a", "mobile"].verdict.value == verdict


def test_mobiles_come_first_and_the_do_not_call_mark_is_kept() -> None:
    work = number("+442079460958", type_cd="work_direct")
    mobile = number("+14155550123", type_cd="mobile", dnc_status_cd="on_dnc_list")
    answer = answers(deliver(ONE, phones(owner(ID1, work, mobile))))["a", "mobile"]
    assert [value.value for value in answer.values] == ["+14155550123", "+442079460958"]
    assert answer.values[0].confidence == "dnc:on_dnc_list"


def test_waterfall_delivery_brings_emails_and_phones() -> None:
    sent = call(
        known("a", ID1, "match", "waterfall_email", "waterfall_phone"),
        known("b", ID2, "match", "waterfall_email"),
        group="waterfall_email+waterfall_phone",
        webhook=True,
    )
    body = {
        "status": "success",
        "request_id": str(JOB),
        "total_requested_enrichments": 2,
        "target_fields": ["emails", "phone_numbers"],
        "records_enriched": 1,
        "credits_consumed": 6.5,
        "people": [
            {
                "id": ID1,
                "emails": [
                    {
                        "email": "Tim@apollo.io",
                        "email_status_cd": "Verified",
                        "waterfall_enriched_at": "2026-09-01T10:00:00Z",
                    }
                ],
                "phone_numbers": [],
                "waterfall": {
                    "emails": [
                        {
                            "vendors": [
                                {"status": "UNVERIFIED", "emails": ["t@apollo.io"]},
                                {"status": "VERIFIED", "emails": [{"email": "tim@apollo.io"}]},
                                {"status": "NOT_FOUND", "emails": None},
                            ]
                        }
                    ],
                    "phone_numbers": [
                        {"vendors": [{"status": "FOUND", "phone_numbers": ["+14155550123"]}]}
                    ],
                },
            }
        ],
    }
    reply = deliver(sent, body, WATERFALL)
    assert reply.cost_micro == 6_500_000
    emails = answers(reply)["a", "waterfall_email"].values
    assert [(one.value, one.status.value) for one in emails] == [
        ("tim@apollo.io", "verified"),
        ("t@apollo.io", "unverified"),
    ]
    assert emails[0].observed_at is not None
    assert values(answers(reply)["a", "waterfall_phone"]) == {"phone": ("+14155550123", "unknown")}
    assert answers(reply)["b", "waterfall_email"].verdict is Verdict.NOT_FOUND
    assert reply.disposition is Disposition.ANSWERED


def test_waterfall_delivery_says_nothing_about_a_field_it_did_not_target() -> None:
    sent = call(
        known("a", ID1, "waterfall_email", "waterfall_phone"),
        group="waterfall_email+waterfall_phone",
        webhook=True,
    )
    body = {"target_fields": ["emails"], "total_requested_enrichments": 1, "people": [{"id": ID1}]}
    reply = deliver(sent, body, WATERFALL)
    assert set(answers(reply)) == {("a", "waterfall_email")}
    assert reply.disposition is Disposition.ACCEPTED


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", {"status": "success"}, {"people": "x"}, {"people": None}]
)
def test_unreadable_delivery_answers_nothing(body: Any) -> None:
    reply = deliver(TWO, body)
    assert (reply.disposition, reply.answers) == (Disposition.IN_DOUBT, ())


def test_waterfall_payload_for_a_phone_call_answers_nothing() -> None:
    reply = deliver(ONE, {"target_fields": ["emails"], "people": [{"id": ID1, "emails": []}]})
    assert (reply.disposition, reply.reason) == (Disposition.IN_DOUBT, "unexpected_payload")


# ---------------------------------------------------------------------------------------- polls


def result(status: str, payload: Any = None) -> HttpResponse:
    return response(
        {
            "request_id": str(JOB),
            "webhook_status": status,
            "request_type": "phone",
            "failure_reason": None,
            "webhook_result": payload,
        }
    )


def test_only_calls_with_a_job_and_a_late_product_are_polled() -> None:
    assert APOLLO.poll(call(item("a", "match"), job_id="1")) is None
    assert APOLLO.poll(call(item("a", "mobile"), group="mobile", webhook=True)) is None


def test_polled_success_is_read_like_a_delivery_and_closes_the_rest() -> None:
    reply = polled(TWO, result("success", phones(owner(ID1, NUMBER), total=1)))
    assert answers(reply)["a", "mobile"].verdict is Verdict.FOUND
    assert answers(reply)["b", "mobile"].verdict is Verdict.NOT_FOUND
    assert (reply.cost_micro, reply.disposition) == (8_000_000, Disposition.ANSWERED)


def test_pending_results_are_asked_for_again() -> None:
    assert polled(TWO, result("in_progress")).disposition is Disposition.NOT_READY
    early = response({"error_code": "result_pending", "retry_after_seconds": 30}, 404)
    reply = polled(TWO, early)
    assert (reply.disposition, reply.retry_after) == (Disposition.NOT_READY, 30.0)
    assert reply.anomalies == ()


@pytest.mark.parametrize(
    ("status", "content", "disposition"),
    [
        (404, {"error_code": "request_id_unknown"}, Disposition.IN_DOUBT),
        (410, {"error_code": "request_id_expired"}, Disposition.IN_DOUBT),
        (400, {"error_code": "invalid_request_id"}, Disposition.IN_DOUBT),
        (401, b"Invalid access credentials.", Disposition.UNAUTHORIZED),
        (403, {"error_code": "API_INACCESSIBLE"}, Disposition.REFUSED),
        (429, {"message": "m"}, Disposition.THROTTLED),
        (500, b"<html></html>", Disposition.NOT_READY),
        (200, b"<html></html>", Disposition.NOT_READY),
        (200, {"webhook_status": "success", "webhook_result": None}, Disposition.IN_DOUBT),
    ],
)
def test_failed_poll_says_nothing_about_the_charge_unless_the_job_is_gone(
    status: int, content: Any, disposition: Disposition
) -> None:
    reply = polled(TWO, response(content, status))
    assert (reply.disposition, reply.answers) == (disposition, ())


@pytest.mark.parametrize(
    ("credits", "verdict"), [(0, Verdict.FAILED), (8, Verdict.NOT_FOUND), (None, None)]
)
def test_failed_delivery_is_bought_anew_only_when_nothing_was_charged(
    credits: Any, verdict: Verdict | None
) -> None:
    reply = polled(TWO, result("failed", phones(owner(ID1), owner(ID2), credits=credits)))
    if verdict is None:
        assert (reply.disposition, reply.answers) == (Disposition.IN_DOUBT, ())
    else:
        assert {answer.verdict for answer in reply.answers} == {verdict}
        assert {answer.reason for answer in reply.answers} == {"delivery_failed"}
        assert len(reply.answers) == 2
    assert reply.reason == ("" if verdict else "delivery_failed")


def test_values_of_a_failed_delivery_are_kept() -> None:
    reply = polled(TWO, result("failed", phones(owner(ID1, NUMBER), owner(ID2), credits=8)))
    assert answers(reply)["a", "mobile"].verdict is Verdict.FOUND
    assert answers(reply)["b", "mobile"].verdict is Verdict.NOT_FOUND


def test_balance_is_a_decimal_string() -> None:
    asked = APOLLO.balance_request()
    assert (asked.method, asked.path) == ("POST", "/usage_stats/credit_usage_stats")
    assert APOLLO.read_balance(response({"credits_remaining": "12.50"})) == 12_500_000
    assert APOLLO.read_balance(response({"credits_remaining": "-1"})) is None
    assert APOLLO.read_balance(response(b"Invalid", 401)) is None


@settings(max_examples=300, deadline=None)
@given(
    raw=mutated_json(sync({**MATCH, "personal_emails": ["a@b.com"]}, MATCH, **PENDING)),
    status=st.sampled_from([200, 200, 422, 500]),
)
def test_any_mutated_reply_is_read_without_an_exception(raw: bytes, status: int) -> None:
    reply = APOLLO.read(TWO, HttpResponse(status, {}, raw))
    answers(reply)
    assert reply.job_id is None or "/" not in reply.job_id
    APOLLO.read_balance(HttpResponse(200, {}, raw))


@settings(max_examples=300, deadline=None)
@given(
    raw=mutated_json(
        {
            "webhook_status": "success",
            "webhook_result": phones(owner(ID1, NUMBER), owner(ID2, NUMBER)),
        }
    ),
    status=st.sampled_from([200, 200, 404]),
)
def test_any_mutated_result_is_read_without_an_exception(raw: bytes, status: int) -> None:
    answers(polled(TWO, HttpResponse(status, {}, raw)))
    answers(APOLLO.read_delivery(TWO, raw))
