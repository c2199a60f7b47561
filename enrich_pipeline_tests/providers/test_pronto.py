"""Rules of the Pronto adapter, on bodies as its API reference shows them."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.providers.pronto import Pronto, ProntoOptions
from enrich_pipeline.providers.protocol import (
    Call,
    Datapoint,
    Disposition,
    HttpRequest,
    HttpResponse,
    Item,
    PersonInputs,
    Reply,
    Unavailable,
    Verdict,
)

JOB = "5f0c6a52-7a64-4c3f-9c51-0d2b8f1f9f10"
RESULT: dict[str, object] = {
    "enrichment_id": JOB,
    "first_name": "Marie",
    "last_name": "Blanc",
    "status": "finished",
    "email": "m.blanc@pronto-example.com",
    "email_status": "deliverable",
    "personal_email": None,
    "personal_email_status": "N/A",
    "phone": ["+33612345678"],
    "custom": {"ref": "k1"},
}


def pronto(**options: object) -> Pronto:
    return Pronto(ProntoOptions.model_validate(options))


def item(key: str, group: str) -> Item:
    known = {
        Datapoint.FIRST_NAME: "Marie",
        Datapoint.LAST_NAME: "Blanc",
        Datapoint.COMPANY_DOMAIN: "pronto-example.com",
        Datapoint.COMPANY_NAME: "Pronto",
        Datapoint.LINKEDIN: f"marie-blanc-{key}",
    }
    return Item(key, PersonInputs(1, known), frozenset({group}))


def call(group: str, size: int = 2, job_id: str | None = JOB) -> Call:
    items = tuple(item(f"k{n}", group) for n in range(1, size + 1))
    return Call(group, items, "https://us.example/webhooks/pronto/token", job_id)


def delivered(sent: Call, **changes: object) -> Reply:
    body = {name: value for name, value in (RESULT | changes).items() if value != "absent"}
    return pronto().read_delivery(sent, json.dumps(body).encode())


def response(status: int, body: object, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status, headers or {}, json.dumps(body).encode())


def test_a_call_holds_exactly_one_enrichment_type_and_every_known_datapoint() -> None:
    request = pronto().request(call("email"))
    assert (request.method, request.path) == ("POST", "/contacts/bulk_enrich")
    assert request.json == {
        "enrichment_type": ["email"],
        "webhook_url": "https://us.example/webhooks/pronto/token",
        "contacts": [
            {
                "firstname": "Marie",
                "lastname": "Blanc",
                "domain": "pronto-example.com",
                "company_name": "Pronto",
                "linkedin_url": f"https://www.linkedin.com/in/marie-blanc-{key}",
                "custom": {"ref": key},
            }
            for key in ("k1", "k2")
        ],
    }


def test_a_lone_contact_goes_to_its_own_endpoint_with_its_fields_at_the_top() -> None:
    request = pronto().request(call("phone", size=1))
    assert request.path == "/contacts/single_enrich"
    assert isinstance(request.json, dict)
    assert request.json["custom"] == {"ref": "k1"}
    assert request.json["firstname"] == "Marie"
    assert "contacts" not in request.json


def test_the_country_list_goes_with_phones_only_and_into_their_options() -> None:
    provider = pronto(phone_country_codes=["us", "FR", "US"])
    options = {offer.product: offer.options for offer in provider.offers(consented=False)}
    assert options == {"email": "", "phone": "countries=FR,US"}
    phones, emails = (provider.request(call(group)).json for group in ("phone", "email"))
    assert isinstance(phones, dict)
    assert isinstance(emails, dict)
    assert phones["phone_country_codes"] == ["FR", "US"]
    assert "phone_country_codes" not in emails


@pytest.mark.parametrize("codes", [[], ["XX"], ["FRA"], [""], [5], "FR"])
def test_a_country_list_that_is_none_is_refused(codes: object) -> None:
    with pytest.raises(ValidationError):
        pronto(phone_country_codes=codes)


@pytest.mark.parametrize(
    ("consented", "account", "reason"),
    [
        (False, False, Unavailable.NO_CONSENT),
        (False, True, Unavailable.NO_CONSENT),
        (True, False, Unavailable.ACCOUNT_CONSENT),
        (True, True, None),
    ],
)
def test_personal_email_needs_the_consent_of_the_person_and_of_the_account(
    consented: bool, account: bool, reason: Unavailable | None
) -> None:
    provider = pronto(account_consents_to_personal_email=account)
    fields = {f for offer in provider.offers(consented=consented) for f in offer.fields}
    assert (Field.PERSONAL_EMAIL in fields) == (reason is None)
    assert provider.unavailable(Field.PERSONAL_EMAIL, consented=consented) is reason


@pytest.mark.parametrize(
    ("product", "missing", "eligible"),
    [
        ("email", {Datapoint.COMPANY_DOMAIN}, True),
        ("email", {Datapoint.COMPANY_NAME, Datapoint.LINKEDIN}, True),
        ("email", {Datapoint.COMPANY_DOMAIN, Datapoint.COMPANY_NAME}, False),
        ("email", {Datapoint.LAST_NAME}, False),
        ("phone", {Datapoint.COMPANY_DOMAIN, Datapoint.COMPANY_NAME}, True),
        ("phone", {Datapoint.LINKEDIN}, False),
        ("phone", {Datapoint.FIRST_NAME}, False),
    ],
)
def test_required_datapoints(product: str, missing: set[Datapoint], eligible: bool) -> None:
    known = {k: v for k, v in item("k1", product).person.datapoints.items() if k not in missing}
    (offer,) = (o for o in pronto().offers(consented=False) if o.product == product)
    assert offer.is_eligible(PersonInputs(1, known)) is eligible


def test_202_is_accepted_with_its_job() -> None:
    reply = pronto().read(call("email"), response(202, {"enrichment_id": JOB}))
    assert (reply.disposition, reply.job_id, reply.answers) == (Disposition.ACCEPTED, JOB, ())


@pytest.mark.parametrize(
    ("status", "body", "disposition", "reason"),
    [
        (401, {"error": "Unauthorized"}, Disposition.UNAUTHORIZED, "http_401"),
        (403, {"message": "Forbidden"}, Disposition.UNAUTHORIZED, "http_403"),
        (422, {"error": "Insufficient credits"}, Disposition.NO_CREDITS, "no_credits"),
        (422, {"error": "insufficient_credits"}, Disposition.NO_CREDITS, "no_credits"),
        (
            422,
            {"message": "Not enough enrichment credits left"},
            Disposition.NO_CREDITS,
            "no_credits",
        ),
        (
            422,
            {
                "error": "You can't use the personal email enrichment feature without consenting "
                "with our terms of use"
            },
            Disposition.REFUSED,
            "account_consent",
        ),
        (422, {"errors": ["Plan limit reached"]}, Disposition.REFUSED, "plan_limit"),
        (422, {"error": {"message": "Import limits exceeded"}}, Disposition.REFUSED, "plan_limit"),
        (
            422,
            {"error": "Insufficient balance: 100 credits required"},
            Disposition.NO_CREDITS,
            "no_credits",
        ),
        (422, {"error": "10 credits are required"}, Disposition.NO_CREDITS, "no_credits"),
        (422, {"error": "Your balance must be positive"}, Disposition.NO_CREDITS, "no_credits"),
        (
            422,
            {"message": "You must upgrade your plan to enrich phones"},
            Disposition.REFUSED,
            "plan_limit",
        ),
        (
            422,
            {"message": "Daily limit reached: at most 2500 credits per day"},
            Disposition.REFUSED,
            "plan_limit",
        ),
        (422, {"error": "Monthly quota exceeded"}, Disposition.REFUSED, "plan_limit"),
        (422, {"errors": ["at most 100 contacts"]}, Disposition.INVALID, "invalid_input"),
        (422, {"errors": ["domain must be planet.com"]}, Disposition.INVALID, "invalid_input"),
        (422, {"errors": ["lastname is required"]}, Disposition.INVALID, "invalid_input"),
        (422, {"errors": [{"detail": "is invalid"}]}, Disposition.INVALID, "invalid_input"),
        (422, {"error": "The moon is full"}, Disposition.REFUSED, "http_422"),
        (422, {}, Disposition.IN_DOUBT, "http_422"),
        (500, {"error": "Internal server error"}, Disposition.IN_DOUBT, "http_500"),
        (404, {"error": "Not found"}, Disposition.IN_DOUBT, "http_404"),
        (202, {"status": "queued"}, Disposition.IN_DOUBT, "accepted_without_id"),
    ],
)
def test_errors_are_told_apart_by_their_message(
    status: int, body: object, disposition: Disposition, reason: str
) -> None:
    reply = pronto().read(call("email"), response(status, body))
    assert (reply.disposition, reply.reason) == (disposition, reason)


def test_an_unknown_422_is_noted() -> None:
    reply = pronto().read(call("email"), response(422, {"error": "The moon is full"}))
    assert reply.anomalies == ("unmapped_422:1",)


def test_429_waits_as_told_whatever_its_body() -> None:
    limited = HttpResponse(429, {"retry-after": "7"}, b"slow down")
    reply = pronto().read(call("email"), limited)
    assert (reply.disposition, reply.retry_after) == (Disposition.THROTTLED, 7.0)


def test_a_delivery_answers_the_item_that_custom_names_and_leaves_the_others_open() -> None:
    reply = delivered(call("email", size=3), custom={"ref": "k2"})
    assert reply.disposition is Disposition.ACCEPTED
    (answer,) = reply.answers
    assert (answer.key, answer.product, answer.verdict) == ("k2", "email", Verdict.FOUND)
    (value,) = answer.values
    assert value.attribute is Attribute.WORK_EMAIL
    assert value.value == "m.blanc@pronto-example.com"
    assert value.status is ValueStatus.VERIFIED
    assert (answer.subject.first_name, answer.subject.last_name) == ("Marie", "Blanc")
    assert reply.cost_micro is answer.cost_micro is None


@pytest.mark.parametrize("custom", [{"ref": "k9"}, {"ref": "K1"}, {"ref": 1}, {}, None, "absent"])
def test_a_delivery_of_another_call_changes_nothing(custom: object) -> None:
    reply = delivered(call("email"), custom=custom)
    assert reply == Reply(Disposition.NOT_READY, anomalies=("unknown_identifier:1",))


def test_without_custom_the_job_id_names_a_lone_contact() -> None:
    lone = call("email", size=1)
    assert delivered(lone, custom=None).answers[0].key == "k1"
    assert delivered(lone, custom=None, enrichment_id="other").answers == ()
    assert delivered(call("email", 1, job_id=None), custom=None, enrichment_id=None).answers == ()


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("deliverable", ValueStatus.VERIFIED),
        ("valid", ValueStatus.VERIFIED),
        ("catch-all", ValueStatus.CATCH_ALL),
        ("N/A", ValueStatus.UNKNOWN),
        (None, ValueStatus.UNKNOWN),
    ],
)
def test_email_statuses(word: object, status: ValueStatus) -> None:
    reply = delivered(call("email"), email_status=word)
    assert reply.answers[0].values[0].status is status
    assert reply.anomalies == ()


def test_an_unmapped_status_is_unknown_and_noted() -> None:
    reply = delivered(call("email"), email_status="Risky!")
    assert reply.answers[0].values[0].status is ValueStatus.UNKNOWN
    assert reply.anomalies == ("unmapped_status:risky",)


@pytest.mark.parametrize(
    "changes",
    [
        {"phone": ["+33612345678", "+33612345678", "+12015550123"]},
        {"phone": [{"number": "+33612345678", "type": "mobile"}, {"number": "+1 201-555-0123"}]},
        {"phone": "absent", "phones": ["+33612345678", "+12015550123"]},
        {"status": "success", "phone": [], "phones": ["+33612345678", {"number": "+12015550123"}]},
    ],
)
def test_phones_in_every_documented_shape(changes: dict[str, object]) -> None:
    (answer,) = delivered(call("phone"), **changes).answers
    assert [value.value for value in answer.values] == ["+33612345678", "+12015550123"]


def test_personal_email_is_read_for_its_own_product_only() -> None:
    changes = {"personal_email": "Marie@mail-example.com", "personal_email_status": "valid"}
    (answer,) = delivered(call("personal_email"), **changes).answers
    assert [v.value for v in answer.values] == ["marie@mail-example.com"]
    (answer,) = delivered(call("email"), **changes).answers
    assert {v.attribute for v in answer.values} == {Attribute.WORK_EMAIL}


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        ("email", {"email": None, "email_status": "N/A"}),
        ("email", {"email": ""}),
        ("email", {"email": "N/A", "email_status": None}),
        ("phone", {"phone": []}),
        ("phone", {"phone": None}),
        ("personal_email", {}),
    ],
)
def test_finished_without_data_is_a_miss(group: str, changes: dict[str, object]) -> None:
    reply = delivered(call(group), **changes)
    assert [(a.verdict, a.reason) for a in reply.answers] == [(Verdict.NOT_FOUND, "not_matched")]
    assert reply.anomalies == ()


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        ("email", {"email": "m***@pronto-example.com"}),
        ("email", {"email": "no address"}),
        ("email", {"email_status": "invalid"}),
        ("phone", {"phone": ["+1 415-3**-****"]}),
        ("phone", {"phone": ["123"]}),
    ],
)
def test_data_without_a_usable_value_is_a_paid_miss(group: str, changes: dict[str, object]) -> None:
    (answer,) = delivered(call(group), **changes).answers
    assert (answer.verdict, answer.reason) == (Verdict.NOT_FOUND, "matched_no_data")


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        ("email", {"email": "absent", "email_status": "absent"}),
        ("email", {"email": 5}),
        ("email", {"email": ["m.blanc@pronto-example.com"]}),
        ("phone", {"phone": "absent"}),
        ("phone", {"phone": [5]}),
        ("phone", {"phone": {"mobile": "+33612345678"}}),
    ],
)
def test_a_renamed_or_reshaped_result_is_never_taken_for_a_miss(
    group: str, changes: dict[str, object]
) -> None:
    reply = delivered(call(group), **changes)
    assert reply.answers == ()
    assert "missing_result:1" in reply.anomalies


@pytest.mark.parametrize("status", ["pending", "queued", "processing"])
def test_an_unfinished_contact_stays_open(status: str) -> None:
    assert delivered(call("email"), status=status) == Reply(Disposition.NOT_READY)


@pytest.mark.parametrize("status", ["absent", None, "weird", 5])
def test_an_unknown_state_stays_open_and_is_noted(status: object) -> None:
    reply = delivered(call("email"), status=status)
    assert reply.answers == ()
    assert any(code.startswith("unmapped_status:") for code in reply.anomalies)


def test_a_failed_contact_failed() -> None:
    assert delivered(call("email"), status="failed").answers[0].verdict is Verdict.FAILED


def test_a_phone_withheld_for_its_country_is_not_a_miss() -> None:
    (answer,) = delivered(call("phone"), phone=[], phone_status="filtered").answers
    assert answer.verdict is Verdict.FILTERED


def test_only_a_lone_contact_can_be_polled() -> None:
    assert pronto().poll(call("email", size=2)) is None
    assert pronto().poll(call("email", size=1, job_id=None)) is None
    assert pronto().poll(call("email", size=1)) is not None


def polled(answer: HttpResponse) -> tuple[Sequence[HttpRequest], Reply]:
    poll = pronto().poll(call("email", size=1))
    assert poll is not None
    asked = next(poll)
    with pytest.raises(StopIteration) as done:
        poll.send([answer])
    reply = done.value.value
    assert isinstance(reply, Reply)
    return asked, reply


def test_a_poll_reads_what_a_delivery_would_bring() -> None:
    asked, reply = polled(response(200, RESULT))
    assert asked == [HttpRequest("GET", f"/contacts/{JOB}")]
    assert reply.disposition is Disposition.ANSWERED
    assert reply.answers == delivered(call("email", size=1)).answers


@pytest.mark.parametrize(
    ("answer", "disposition"),
    [
        (response(200, RESULT | {"status": "pending"}), Disposition.NOT_READY),
        (response(404, {"error": "Not found"}), Disposition.NOT_READY),
        (HttpResponse(502, {}, b"<html>"), Disposition.NOT_READY),
        (HttpResponse(200, {}, b"<html>"), Disposition.NOT_READY),
        (response(429, {}, {"retry-after": "3"}), Disposition.THROTTLED),
        (response(401, {"error": "Unauthorized"}), Disposition.UNAUTHORIZED),
    ],
)
def test_a_poll_without_news_changes_nothing(
    answer: HttpResponse, disposition: Disposition
) -> None:
    _, reply = polled(answer)
    assert (reply.disposition, reply.answers) == (disposition, ())


def test_balance() -> None:
    provider = pronto()
    assert provider.balance_request() == HttpRequest("GET", "/credits")
    assert provider.read_balance(response(200, {"credits": 12.5})) == 12_500_000
    assert provider.read_balance(response(200, {"credits": "many"})) is None
    assert provider.read_balance(response(500, {"credits": 1})) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["email", "phone", "personal_email"]),
    st.dictionaries(st.sampled_from(sorted(RESULT) + ["phones", "phone_status"]), json_values),
)
def test_no_delivery_raises_or_answers_for_another_item(
    group: str, changes: dict[str, object]
) -> None:
    sent = call(group)
    body = json.dumps(RESULT | changes).encode()
    reply = pronto().read_delivery(sent, body)
    for answer in reply.answers:
        assert answer.key in {item.key for item in sent.items}
        assert answer.product == group
        assert (answer.verdict is Verdict.FOUND) == any(
            value.status is not ValueStatus.INVALID for value in answer.values
        )
