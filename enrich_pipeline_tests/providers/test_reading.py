"""Rules of the shared reading helpers: nothing foreign raises, nothing damaged becomes a miss."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_pipeline.domain.enrichment import Attribute, ValueStatus
from enrich_pipeline.providers import reading
from enrich_pipeline.providers.protocol import Disposition, HttpResponse
from enrich_pipeline.providers.reading import ErrorRule, Loose, Notes, RollCall
from enrich_pipeline_tests.providers.cases import item, response

OK = ValueStatus.VERIFIED


class _Inner(Loose):
    name: str | None = None
    age: int | None = None


class _Outer(Loose):
    inner: _Inner | None = None
    flag: bool | None = None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe{}",
        b"{",
        b'{"a": 1} x',
        b"[" * 200_000,
        b"[" * 60 + b"]" * 60,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": 1e99999999999999999999}',
    ],
)
def test_what_is_no_sane_json_is_none(body: bytes) -> None:
    assert reading.json_value(body) is None


def test_byte_order_mark_and_fractions_are_read() -> None:
    assert reading.json_value(b'\xef\xbb\xbf{"a": 1.10}') == {"a": Decimal("1.10")}


def test_truncated_response_is_never_parsed() -> None:
    assert reading.json_object(HttpResponse(200, {}, b"{}", truncated=True)) is None
    assert reading.json_object(HttpResponse(200, {}, b"{}")) == {}
    assert reading.json_object(HttpResponse(200, {}, b"[]")) is None


def test_wrong_types_are_read_as_absent_and_counted() -> None:
    notes = Notes()
    good = reading.part(_Outer, {"inner": {"name": "x", "age": 3, "more": 1}}, notes)
    assert good is not None
    assert not good.is_damaged
    assert notes.codes() == ()
    bad = reading.part(_Outer, {"inner": {"name": 7, "age": 3}, "flag": "true"}, notes)
    assert bad is not None
    assert bad.is_damaged
    assert bad.value == _Outer(inner=_Inner(age=3))
    assert notes.codes() == ("wrong_type:2",)
    assert reading.part(_Outer, "x", notes) is None


@pytest.mark.parametrize(
    ("raw", "micro"),
    [
        (0, 0),
        (1, 1_000_000),
        (Decimal("0.0000015"), 2),
        (Decimal("1e-999999999"), 0),
        ("2.5", 2_500_000),
        (1_000_000, 1_000_000_000_000),
        (1_000_001, None),
        (Decimal("1e999999999"), None),
        (Decimal("NaN"), None),
        (Decimal("Infinity"), None),
        (-1, None),
        (True, None),
        ("", None),
        ("1" * 41, None),
        ([], None),
    ],
)
def test_costs_are_exact_or_unreadable(raw: Any, micro: int | None) -> None:
    notes = Notes()
    assert reading.cost_micro(raw, notes) == micro
    assert notes.codes() == (() if micro is not None else ("unreadable_cost:1",))


def test_no_stated_cost_is_no_anomaly() -> None:
    notes = Notes()
    assert reading.cost_micro(None, notes) is None
    assert notes.codes() == ()


@pytest.mark.parametrize(
    ("raw", "wait"),
    [("5", 5.0), (0, 0.0), ("999999", 86_400.0), ("-1", None), ("soon", None), (None, None)],
)
def test_waiting_times_are_bounded(raw: Any, wait: float | None) -> None:
    assert reading.seconds(raw) == wait


@pytest.mark.parametrize("raw", ["a/b", "", "x" * 65, "é", True, 1.5, None, ["a"], "a b", "a\n"])
def test_ids_that_could_change_a_path_are_refused(raw: Any) -> None:
    assert reading.opaque_id(raw) is None


def test_unmapped_words_become_harmless_codes() -> None:
    notes = Notes()
    table = {"valid": OK}
    assert reading.status_of(table, " VALID ", notes) is OK
    assert reading.status_of(table, None, notes) is ValueStatus.UNKNOWN
    assert reading.status_of(table, "N/A", notes) is ValueStatus.UNKNOWN
    assert notes.codes() == ()
    assert reading.status_of(table, "Jane@x.com 12 " + "y" * 90, notes) is ValueStatus.UNKNOWN
    (code,) = notes.codes()
    assert re.fullmatch(r"unmapped_status:[a-z_-]{1,30}", code)


@pytest.mark.parametrize(
    ("raw", "value", "codes"),
    [
        ("  Jane@ACME.com ", "jane@acme.com", ()),
        ("j\x00ane@acme.com", "jane@acme.com", ()),
        ("j***@acme.com", None, ("masked_email:1",)),
        ("email_not_unlocked@domain.com", None, ("masked_email:1",)),
        ("not an address", None, ("unusable_work_email:1",)),
        ("a" * 600 + "@acme.com", None, ("unusable_email:1",)),
        (5, None, ("wrong_type:1",)),
        ("", None, ()),
        (None, None, ()),
    ],
)
def test_emails_are_usable_or_absent(raw: Any, value: str | None, codes: tuple[str, ...]) -> None:
    notes = Notes()
    found = reading.email(Attribute.WORK_EMAIL, raw, OK, notes)
    assert [one.value for one in found] == ([] if value is None else [value])
    assert notes.codes() == codes


def test_profile_keeps_what_is_readable() -> None:
    notes = Notes()
    values = reading.profile(
        notes, title="CTO", company="N/A", domain=3, linkedin="https://x.com/a", location=" "
    )
    assert [(one.attribute, one.value) for one in values] == [(Attribute.JOB_TITLE, "CTO")]
    assert notes.codes() == (
        "unusable_company_name:1",
        "unusable_linkedin_url:1",
        "wrong_type:1",
    )


def test_each_item_answers_once() -> None:
    notes = Notes()
    roll = RollCall({"1": item("a"), "2": item("b")}, notes)
    assert [found and found.key for found in map(roll.take, (1, "1", "9", None, True))] == [
        "a",
        None,
        None,
        None,
        None,
    ]
    roll.close()
    assert notes.codes() == (
        "duplicate_identifier:1",
        "missing_identifier:1",
        "unknown_identifier:3",
    )


def test_first_matching_rule_decides_and_none_means_in_doubt() -> None:
    rules = (
        ErrorRule(Disposition.NO_CREDITS, status=422, message=re.compile("credits")),
        ErrorRule(Disposition.INVALID, status=422),
        ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
    )

    def read(status: int, message: object, *, own: bool = True) -> Disposition:
        return reading.classify(rules, status, message=message, is_own_json=own)

    assert read(422, "no credits left") is Disposition.NO_CREDITS
    assert read(422, None) is Disposition.INVALID
    assert read(422, "no credits left", own=False) is Disposition.IN_DOUBT
    assert read(429, None, own=False) is Disposition.THROTTLED
    assert read(500, "x") is Disposition.IN_DOUBT


def test_only_replies_that_may_be_repeated_carry_a_waiting_time() -> None:
    limited = response({}, 429, {"retry-after": "4"})
    waiting = reading.failure(Disposition.THROTTLED, limited, Notes(), retry_after=9.0)
    assert (waiting.retry_after, waiting.reason) == (4.0, "http_429")
    final = reading.failure(
        Disposition.INVALID, limited, Notes(), code="BAD_INPUT", known=["BAD_INPUT"]
    )
    assert (final.retry_after, final.reason) == (None, "bad_input")


@pytest.mark.parametrize("said", ["jane.doe@example.com", "Jane Doe", "key sk-live is unknown"])
def test_what_stands_in_the_place_of_a_code_is_not_repeated(said: str) -> None:
    """A key in such a text was shown in Dagster as the reason for which a stage stopped."""
    reply = reading.failure(Disposition.IN_DOUBT, response({}, 400), Notes(), code=said)
    assert reply.reason == "http_400"
    notes = Notes()
    reading.failure(Disposition.IN_DOUBT, response({}, 400), notes, code=said, known=["BAD"])
    notes.word("unmapped_status", "jane.doe@example.com")
    assert notes.codes() == ("unknown_error_code:1", "unmapped_status:other")


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_without_an_exception(body: bytes) -> None:
    value = reading.json_value(body)
    reading.part(_Outer, value, Notes())


@settings(max_examples=300, deadline=None)
@given(raw=st.one_of(st.none(), st.integers(), st.decimals(), st.text(), st.just("\ud800@x.com")))
def test_any_scalar_is_read_without_an_exception(raw: Any) -> None:
    notes = Notes()
    reading.email(Attribute.PERSONAL_EMAIL, raw, OK, notes)
    reading.phone(raw, OK, notes)
    reading.profile(notes, title=raw, company=raw, domain=raw, linkedin=raw, location=raw)
    reading.cost_micro(raw, notes)
    reading.seconds(raw)
    reading.instant(raw)
    reading.status_of({}, raw, notes)
    assert all(code.isascii() for code in notes.codes())
