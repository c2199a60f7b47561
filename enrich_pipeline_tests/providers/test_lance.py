"""Rules of the Lance adapter, on bodies as its API reference shows them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from enrich_pipeline.domain.enrichment import Attribute, ValueStatus
from enrich_pipeline.providers.lance import Lance, LanceOptions
from enrich_pipeline.providers.protocol import (
    Call,
    Datapoint,
    Disposition,
    HttpRequest,
    HttpResponse,
    Item,
    PersonInputs,
    Reply,
    Verdict,
)

IDS = tuple(f"550e8400-e29b-41d4-a716-44665544000{n}" for n in range(1, 5))
PERSON: dict[str, object] = {
    "firstName": "Marie",
    "lastName": "Blanc",
    "emails": [
        {"email": "M.Blanc@lance-example.com", "status": "verified"},
        {"email": "marie@lance-example.com", "status": "unverified"},
    ],
    "phones": [{"number": "+33612345678", "type": "mobile"}],
}


def lance(**options: object) -> Lance:
    return Lance(LanceOptions.model_validate(options))


def call(group: str = "emails", size: int = 2) -> Call:
    return Call(
        group,
        tuple(
            Item(f"k{n}", PersonInputs(n, {Datapoint.LANCE_ID: IDS[n - 1]}), frozenset({group}))
            for n in range(1, size + 1)
        ),
    )


def row(person: str = IDS[0], **changes: object) -> dict[str, object]:
    return {
        "id": "7c1e1c1c-0000-4000-8000-000000000001",
        "createdAt": "2026-09-01T10:00:00.000Z",
        "updatedAt": "2026-09-01T10:05:00.000Z",
        "entityId": person,
        "entityType": "person",
        "field": "emails",
        "status": "pending",
        "error": None,
        "dataFound": None,
        "createdBy": "user_1",
        "orgId": "org_1",
        "globalEnrichmentId": None,
        "creditTransactionId": None,
    } | changes


def finished(person: str = IDS[0], **changes: object) -> dict[str, object]:
    return row(person, status="finished", dataFound=True) | changes


def response(body: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(body).encode())


def converse(
    sent: Call,
    rows: object,
    person: Callable[[str], HttpResponse] | None = None,
    provider: Lance | None = None,
) -> tuple[list[Sequence[HttpRequest]], Reply]:
    """Plays Lance in a poll; returns what was asked in each step and the reply."""
    poll = (provider or lance()).poll(sent)
    assert poll is not None
    asked = [next(poll)]
    answers = [rows if isinstance(rows, HttpResponse) else response(rows)]
    while True:
        try:
            asked.append(poll.send(answers))
        except StopIteration as done:
            reply: Reply = done.value
            return asked, reply
        ids = [request.path.rpartition("/")[2] for request in asked[-1]]
        read = person or (lambda person: response(PERSON | {"id": person}))
        answers = [read(one) for one in ids]


def test_a_call_asks_one_field_for_the_ids_of_its_persons() -> None:
    assert lance().request(call("phones")) == HttpRequest(
        "POST",
        "/operations/enrichment/batch",
        json={"personIds": [IDS[0], IDS[1]], "field": "phones"},
    )


def test_a_person_without_a_lance_id_is_not_eligible() -> None:
    for offer in lance().offers(consented=True):
        assert not offer.is_eligible(PersonInputs(1, {Datapoint.EMAIL: "a@b.example"}))
        assert offer.is_eligible(PersonInputs(1, {Datapoint.LANCE_ID: IDS[0]}))


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"enrichments": rows}])
def test_pending_and_finished_records_of_the_first_reply_are_all_pending(
    wrap: Callable[[object], object],
) -> None:
    reply = lance().read(call(), response(wrap([finished(IDS[1]), row(IDS[0])])))
    assert reply.disposition is Disposition.ACCEPTED
    assert {(a.key, a.verdict) for a in reply.answers} == {
        ("k1", Verdict.PENDING),
        ("k2", Verdict.PENDING),
    }
    assert all(
        a.created_at == datetime(2026, 9, 1, 10, tzinfo=UTC) and not a.values for a in reply.answers
    )


def test_records_are_told_by_person_and_field_never_by_position() -> None:
    rows = [row(IDS[3]), row(IDS[0], field="phones"), row(IDS[1]), {}, 5]
    reply = lance().read(call(), response(rows))
    assert [a.key for a in reply.answers] == ["k2"]
    assert set(reply.anomalies) == {"unknown_identifier:4", "missing_identifier:1"}


@pytest.mark.parametrize("body", [[], {}, {"enrichments": None}, [row(IDS[3])], "x", None])
def test_a_first_reply_without_any_of_our_records_is_in_doubt(body: object) -> None:
    assert lance().read(call(), response(body)).disposition is Disposition.IN_DOUBT


@pytest.mark.parametrize(
    ("status", "body", "disposition"),
    [
        (400, {"code": "VALIDATION_ERROR", "message": "bad"}, Disposition.INVALID),
        (400, {"error": {"code": "VALIDATION_ERROR"}}, Disposition.INVALID),
        (401, {"code": "VALIDATION_ERROR", "message": "Missing"}, Disposition.UNAUTHORIZED),
        (401, {"error": "VALIDATION_ERROR"}, Disposition.UNAUTHORIZED),
        (400, {"error": "Organization ID is missing"}, Disposition.UNAUTHORIZED),
        (402, {"code": "INSUFFICIENT_CREDITS"}, Disposition.NO_CREDITS),
        (500, {"code": "INTERNAL_ERROR"}, Disposition.IN_DOUBT),
        (429, {}, Disposition.THROTTLED),
        (500, {"oops": 1}, Disposition.IN_DOUBT),
        (502, {"code": "INTERNAL_ERROR"}, Disposition.IN_DOUBT),
        (404, {"code": "NOT_FOUND"}, Disposition.IN_DOUBT),
        (402, "<html>", Disposition.IN_DOUBT),
    ],
)
def test_errors(status: int, body: object, disposition: Disposition) -> None:
    assert lance().read(call(), response(body, status)).disposition is disposition


def test_a_poll_asks_for_the_records_of_the_call() -> None:
    asked, reply = converse(call(), [row(IDS[0])])
    assert asked == [
        [
            HttpRequest(
                "POST",
                "/operations/enrichment/batch/query",
                json={
                    "tasks": [
                        {"entityId": person, "field": "emails", "entityType": "person"}
                        for person in IDS[:2]
                    ]
                },
            )
        ]
    ]
    assert reply == Reply(Disposition.NOT_READY)


def test_values_are_read_from_the_person_once_finished_with_data() -> None:
    asked, reply = converse(call(), [finished(IDS[1]), row(IDS[0])])
    assert asked[1] == [HttpRequest("GET", f"/entities/persons/{IDS[1]}")]
    assert reply.disposition is Disposition.ACCEPTED
    (answer,) = reply.answers
    assert (answer.key, answer.product, answer.verdict) == ("k2", "emails", Verdict.FOUND)
    assert [(v.attribute, v.value, v.status) for v in answer.values] == [
        (Attribute.WORK_EMAIL, "m.blanc@lance-example.com", ValueStatus.VERIFIED),
        (Attribute.WORK_EMAIL, "marie@lance-example.com", ValueStatus.UNVERIFIED),
    ]
    assert {v.observed_at for v in answer.values} == {datetime(2026, 9, 1, 10, 5, tzinfo=UTC)}
    assert answer.created_at == datetime(2026, 9, 1, 10, tzinfo=UTC)
    assert (answer.subject.first_name, answer.subject.provider_id) == ("Marie", IDS[1])


def test_all_finished_persons_are_asked_for_at_once() -> None:
    asked, reply = converse(call(size=4), [finished(person) for person in IDS])
    assert [len(step) for step in asked] == [1, 4]
    assert reply.disposition is Disposition.ANSWERED
    assert [a.key for a in reply.answers] == ["k1", "k2", "k3", "k4"]


def test_who_was_answered_before_is_not_asked_for_again() -> None:
    polled = replace(call(size=4), awaited=frozenset({"k3"}))
    asked, reply = converse(polled, [finished(IDS[2])])
    (query,) = asked[0]
    assert query.json == {
        "tasks": [{"entityId": IDS[2], "field": "emails", "entityType": "person"}]
    }
    assert asked[1] == [HttpRequest("GET", f"/entities/persons/{IDS[2]}")]
    assert (reply.disposition, [a.key for a in reply.answers]) == (Disposition.ANSWERED, ["k3"])


def test_a_poll_that_still_awaits_somebody_is_not_complete() -> None:
    polled = replace(call(size=4), awaited=frozenset({"k2", "k3"}))
    # What was not asked for is told all the same.
    _, reply = converse(polled, [finished(IDS[2]), row(IDS[1]), finished(IDS[0])])
    assert (reply.disposition, [a.key for a in reply.answers]) == (Disposition.ACCEPTED, ["k3"])
    assert reply.anomalies == ("unknown_identifier:1",)


def test_phones() -> None:
    _, reply = converse(call("phones", 1), [finished(field="phones")])
    assert [(v.attribute, v.value, v.status) for v in reply.answers[0].values] == [
        (Attribute.PHONE, "+33612345678", ValueStatus.UNKNOWN)
    ]


def test_finished_without_data_is_a_miss_and_asks_for_no_person() -> None:
    asked, reply = converse(call(size=1), [finished(dataFound=False)])
    assert len(asked) == 1
    assert [a.verdict for a in reply.answers] == [Verdict.NOT_FOUND]


@pytest.mark.parametrize("word", ["failed", "timed_out", "TIMEOUT", "cancelled", "Timed Out"])
def test_a_failed_record_failed(word: str) -> None:
    _, reply = converse(call(size=1), [row(status=word)])
    assert [a.verdict for a in reply.answers] == [Verdict.FAILED]


def test_an_unknown_state_is_work_in_progress_and_noted() -> None:
    _, reply = converse(call(size=1), [row(status="scheduled")])
    assert reply == Reply(Disposition.NOT_READY, anomalies=("unmapped_status:scheduled",))


def test_finished_without_saying_whether_there_is_data_stays_open() -> None:
    _, reply = converse(call(size=1), [finished(dataFound=None)])
    assert reply == Reply(Disposition.NOT_READY, anomalies=("finished_without_verdict:1",))


def test_of_several_records_the_newest_counts() -> None:
    failed = row(status="failed", createdAt="2026-08-01T00:00:00Z")
    for rows in ([failed, finished()], [finished(), failed]):
        _, reply = converse(call(size=1), rows)
        assert [a.verdict for a in reply.answers] == [Verdict.FOUND]


@pytest.mark.parametrize(
    ("person", "anomaly"),
    [
        ({"id": IDS[0]}, "missing_result:1"),
        ({"id": IDS[0], "emails": []}, "missing_result:1"),
        ({"id": IDS[0], "emails": [{"address": "a@b.example"}]}, "missing_result:1"),
        ({"id": IDS[0], "emails": "a@b.example"}, "missing_result:1"),
        ({"id": IDS[0], "emails": ["a@b.example"]}, "missing_result:1"),
        (PERSON | {"id": IDS[2]}, "unknown_identifier:1"),
        (PERSON, "unknown_identifier:1"),
        ([], "unreadable_person:1"),
    ],
)
def test_a_person_that_cannot_be_read_is_never_a_miss(person: object, anomaly: str) -> None:
    _, reply = converse(call(size=1), [finished()], lambda _: response(person))
    assert (reply.disposition, reply.answers) == (Disposition.NOT_READY, ())
    assert anomaly in reply.anomalies


def test_a_person_that_fails_leaves_the_others_answered() -> None:
    def person(wanted: str) -> HttpResponse:
        if wanted == IDS[0]:
            return HttpResponse(502, {}, b"<html>")
        return response(PERSON | {"id": wanted})

    _, reply = converse(call(), [finished(IDS[0]), finished(IDS[1])], person)
    assert (reply.disposition, [a.key for a in reply.answers]) == (Disposition.ACCEPTED, ["k2"])


def test_a_throttled_read_of_a_person_waits_as_told() -> None:
    _, reply = converse(
        call(), [finished()], lambda _: HttpResponse(429, {"retry-after": "9"}, b"")
    )
    assert (reply.disposition, reply.retry_after) == (Disposition.THROTTLED, 9.0)
    assert (reply.answers, reply.anomalies) == ((), ())


def test_data_without_a_usable_value_is_a_paid_miss() -> None:
    emails = [{"email": "m***@lance-example.com", "status": "verified"}]
    _, reply = converse(
        call(size=1), [finished()], lambda one: response({"id": one, "emails": emails})
    )
    (answer,) = reply.answers
    assert (answer.verdict, answer.reason) == (Verdict.NOT_FOUND, "matched_no_data")


@pytest.mark.parametrize(
    ("failure", "disposition"),
    [
        (response({"error": "Organization ID is missing"}, 400), Disposition.UNAUTHORIZED),
        (response({"code": "VALIDATION_ERROR"}, 401), Disposition.UNAUTHORIZED),
        (HttpResponse(429, {"retry-after": "4"}, b""), Disposition.THROTTLED),
        (response({"code": "INTERNAL_ERROR"}, 500), Disposition.NOT_READY),
        (HttpResponse(502, {}, b"<html>"), Disposition.NOT_READY),
        (HttpResponse(200, {}, b"<html>"), Disposition.NOT_READY),
        (HttpResponse(200, {}, b"[", truncated=True), Disposition.NOT_READY),
    ],
)
def test_a_failed_query_says_nothing_of_the_enrichments(
    failure: HttpResponse, disposition: Disposition
) -> None:
    _, reply = converse(call(), failure)
    assert (reply.disposition, reply.answers) == (disposition, ())


def test_where_persons_are_read_is_a_setting() -> None:
    provider = lance(person_path="/v2/people/{person_id}/full")
    asked, _ = converse(
        call(size=1), [finished()], lambda _: response(PERSON | {"id": IDS[0]}), provider
    )
    assert asked[1][0].path == f"/v2/people/{IDS[0]}/full"


@pytest.mark.parametrize(
    "path", ["", "/persons", "persons/{person_id}", "/{person_id}/{person_id}", "/{person_id}?a=b"]
)
def test_a_person_path_without_exactly_one_id_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        lance(person_path=path)


def test_balance() -> None:
    provider = lance()
    assert provider.balance_request() == HttpRequest("GET", "/operations/credits/balance")
    assert provider.read_balance(response({"balance": 250, "organizationId": "o"})) == 250_000_000
    assert provider.read_balance(response([])) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(sorted(row())), json_values),
    st.dictionaries(st.sampled_from(sorted(PERSON)), json_values),
)
def test_no_reply_raises_or_answers_for_another_person(
    record: dict[str, object], person: dict[str, object]
) -> None:
    sent = call()
    rows = [finished() | record, finished(IDS[1])]
    lance().read(sent, response(rows))
    _, reply = converse(sent, rows, lambda one: response(PERSON | {"id": one} | person))
    keys = [answer.key for answer in reply.answers]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= {"k1", "k2"}
