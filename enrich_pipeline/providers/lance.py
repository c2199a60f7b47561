"""Lance (lance.so): work e-mails and phones of persons that already have a Lance id, by polling.

Follows the Lance API reference, "Batch Enrichment" and "Query Enrichments" (read 2026-11). One call
buys one field for 1 to 100 persons and returns enrichment records without values; once a record is
finished with data, the values stand in the person entity. 1 credit for an e-mail, 10 for a phone,
due when a record made by us finishes with data. Pending and finished records are reused free of
charge, so a call may be sent again; a failed one is made anew. Costs are not reported.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final

from pydantic import field_validator

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.providers import reading
from enrich_pipeline.providers.protocol import (
    MATCHED_NO_DATA,
    Answer,
    Call,
    Datapoint,
    Disposition,
    FoundValue,
    HttpRequest,
    HttpResponse,
    InDoubtPolicy,
    Item,
    Limits,
    Offer,
    Options,
    Poll,
    Provider,
    Reply,
    Subject,
    Verdict,
)
from enrich_pipeline.providers.reading import ErrorRule, Notes

EMAILS: Final = "emails"
PHONES: Final = "phones"
MAX_TASKS: Final = 200
"""Documented bound of one status query."""

_FINISHED: Final = "finished"
ASSUMED_WORKING: Final = frozenset({"pending", "queued", "running", "processing", "in_progress"})
"""Only `pending` is spelled out; other unknown words count as work in progress and are noted."""
ASSUMED_FAILED: Final = frozenset(
    {"failed", "error", "timed_out", "timeout", "cancelled", "canceled", "expired"}
)
"""Named as "failed, timed out or cancelled" in the reference, without their exact spelling."""
ASSUMED_EMAIL_STATUSES: Final = {
    "verified": ValueStatus.VERIFIED,
    "unverified": ValueStatus.UNVERIFIED,
}
"""The entity's e-mail statuses are not documented."""

_ERRORS: Final = (
    ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
    # 401 carries the code VALIDATION_ERROR too: the status decides.
    ErrorRule(Disposition.UNAUTHORIZED, status=401),
    ErrorRule(
        Disposition.UNAUTHORIZED, status=400, message=re.compile("organization id is missing", re.I)
    ),
    ErrorRule(Disposition.INVALID, status=400, code="VALIDATION_ERROR"),
    ErrorRule(Disposition.NO_CREDITS, status=402, code="INSUFFICIENT_CREDITS"),
    # Records may have been created, and are charged when they finish. A call in doubt is sent again
    # and owns them; one claimed anew would find them older than itself and book nothing.
    ErrorRule(Disposition.IN_DOUBT, code="INTERNAL_ERROR"),
)


class LanceOptions(Options):
    """`person_path`: where a person's values are read; the reference does not name the endpoint."""

    person_path: str = "/entities/persons/{person_id}"

    @field_validator("person_path")
    @classmethod
    def _path(cls, path: str) -> str:
        if not re.fullmatch(r"/[A-Za-z0-9_/.-]*\{person_id\}[A-Za-z0-9_/.-]*", path):
            raise ValueError("must be a path like /entities/persons/{person_id}")
        return path


class _Record(reading.Loose):
    """One enrichment record."""

    entityId: str | None = None
    field: str | None = None
    status: str | None = None
    dataFound: bool | None = None
    createdAt: str | None = None
    updatedAt: str | None = None


class _Entry(reading.Loose):
    """One e-mail address or phone number of a person."""

    email: str | None = None
    status: str | None = None
    number: str | None = None


class _Person(reading.Loose):
    """Assumption: the shape of a person entity, which no public document shows."""

    id: str | None = None
    firstName: str | None = None
    lastName: str | None = None
    emails: list[object] | None = None
    phones: list[object] | None = None


class Lance(Provider):
    name = "lance"
    title = "Lance"
    default_base_url = "https://app.lance.so/api/v1"
    unit = "credit"
    limits = Limits(1, 100)
    in_doubt = InDoubtPolicy.NATURAL_IDEMPOTENT
    options_model = LanceOptions
    default_prices: ClassVar[Mapping[str, str]] = {EMAILS: "1", PHONES: "10"}
    uses_polling = True

    options: LanceOptions

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        return tuple(
            Offer(
                product=product,
                fields=(field,),
                requires=(frozenset({Datapoint.LANCE_ID}),),
                identity=(Datapoint.LANCE_ID,),
                repeat_is_charged=False,
            )
            for product, field in ((EMAILS, Field.WORK_EMAIL), (PHONES, Field.PHONE))
        )

    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        return tuple((offer.product, (offer,)) for offer in offers)

    def headers(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def request(self, call: Call) -> HttpRequest:
        body = {"personIds": list(_items(call)), "field": call.group}
        return HttpRequest("POST", "/operations/enrichment/batch", json=body)

    def read(self, call: Call, response: HttpResponse) -> Reply:
        """Reads which records there are. Values, of finished ones too, are the poll's to read."""
        notes = Notes()
        if not 200 <= response.status < 300:
            return _error(response, notes)
        rows = _rows(response)
        if rows is None:
            return reading.not_understood("no_records", notes)
        items = _items(call)
        records = _newest(call, items, rows, notes)
        if not records:
            return reading.not_understood("no_records", notes)
        notes.add("missing_identifier", len(call.items) - len(records))
        answers = tuple(
            Answer(
                key=item.key,
                product=call.group,
                verdict=Verdict.PENDING,
                created_at=reading.instant(records[person].createdAt),
            )
            for person, item in items.items()
            if person in records
        )
        return Reply(Disposition.ACCEPTED, answers=answers, anomalies=notes.codes())

    def poll(self, call: Call) -> Poll | None:
        """Asks for the records, then for the persons of those that finished with data."""
        return self._conversation(call)

    def _conversation(self, call: Call) -> Poll:
        notes = Notes()
        awaited = call.awaited
        items = {p: i for p, i in _items(call).items() if awaited is None or i.key in awaited}
        tasks = [{"entityId": p, "field": call.group, "entityType": "person"} for p in items]
        responses = yield [
            HttpRequest(
                "POST",
                "/operations/enrichment/batch/query",
                json={"tasks": tasks[start : start + MAX_TASKS]},
            )
            for start in range(0, len(tasks), MAX_TASKS)
        ]
        rows: list[object] = []
        failed: list[Reply] = []
        for response in responses:
            found = _rows(response) if response.status == 200 else None
            if found is None:
                failed.append(_unanswered(response, notes))
            rows += found or []
        records = _newest(call, items, rows, notes)
        answers: list[Answer] = []
        ready: list[str] = []
        for person, record in records.items():
            verdict = _verdict(record, notes)
            if verdict is Verdict.FOUND:
                ready.append(person)
            elif verdict is not Verdict.PENDING:
                is_failed = verdict is Verdict.FAILED
                answers.append(
                    Answer(
                        key=items[person].key,
                        product=call.group,
                        verdict=verdict,
                        created_at=reading.instant(record.createdAt),
                        reason=_word(record.status) if is_failed else "not_matched",
                    )
                )
        if ready:
            entities = yield [self._person_request(person) for person in ready]
            for person, entity in zip(ready, entities, strict=True):
                if entity.status == 429:
                    failed.append(_unanswered(entity, notes))
                    continue
                answer = _read_person(call.group, items[person], records[person], entity, notes)
                if answer is not None:
                    answers.append(answer)
        if not answers:
            return failed[0] if failed else Reply(Disposition.NOT_READY, anomalies=notes.codes())
        is_complete = len(answers) == len(items)
        return Reply(
            Disposition.ANSWERED if is_complete else Disposition.ACCEPTED,
            answers=tuple(answers),
            anomalies=notes.codes(),
        )

    def _person_request(self, person: str) -> HttpRequest:
        return HttpRequest("GET", self.options.person_path.replace("{person_id}", person))

    def balance_request(self) -> HttpRequest:
        return HttpRequest("GET", "/operations/credits/balance")

    def read_balance(self, response: HttpResponse) -> int | None:
        body = reading.json_object(response)
        if response.status != 200 or body is None:
            return None
        return reading.amount_micro(body.get("balance"))


def _items(call: Call) -> dict[str, Item]:
    """Items by Lance id, which no two persons share."""
    return {item.person.datapoints[Datapoint.LANCE_ID]: item for item in call.items}


def _rows(response: HttpResponse) -> list[object] | None:
    """The records of a reply: a bare array, or wrapped as the reference's prose has it."""
    value = None if response.truncated else reading.json_value(response.body)
    if isinstance(value, dict):
        value = value.get("enrichments")
    return value if isinstance(value, list) else None


def _newest(
    call: Call, items: Collection[str], rows: Iterable[object], notes: Notes
) -> dict[str, _Record]:
    """Per person asked the newest record of the call's field: a failed one may have successors."""
    records: dict[str, _Record] = {}
    for row in rows:
        part = reading.part(_Record, row, notes)
        person = (part.value.entityId or "").lower() if part else ""
        if part is None or person not in items or part.value.field != call.group:
            notes.add("unknown_identifier")
            continue
        if person in records:
            notes.add("duplicate_identifier")
            if _created(part.value) <= _created(records[person]):
                continue
        records[person] = part.value
    return records


def _created(record: _Record) -> datetime:
    return reading.instant(record.createdAt) or datetime.min.replace(tzinfo=UTC)


def _word(status: str | None) -> str:
    return reading.code_word(status or "none")


def _verdict(record: _Record, notes: Notes) -> Verdict:
    """FOUND stands for "values can be read now"."""
    word = _word(record.status)
    if word in ASSUMED_FAILED:
        return Verdict.FAILED
    if word != _FINISHED:
        if word not in ASSUMED_WORKING:
            notes.word("unmapped_status", word)
        return Verdict.PENDING
    if record.dataFound is None:
        notes.add("finished_without_verdict")
        return Verdict.PENDING
    return Verdict.FOUND if record.dataFound else Verdict.NOT_FOUND


def _read_person(
    product: str, item: Item, record: _Record, response: HttpResponse, notes: Notes
) -> Answer | None:
    """The values of one person; None where they cannot be read, which is not a miss."""
    body = reading.json_object(response) if response.status == 200 else None
    part = reading.part(_Person, body, notes)
    if part is None:
        notes.add("unreadable_person")
        return None
    person = part.value
    if (person.id or "").lower() != item.person.get(Datapoint.LANCE_ID):
        notes.add("unknown_identifier")
        return None
    listed = person.emails if product == EMAILS else person.phones
    if not listed:
        # The record says that there is data.
        notes.add("missing_result")
        return None
    values = _values(product, listed, reading.instant(record.updatedAt), notes)
    if values is None:
        notes.add("missing_result")
        return None
    is_found = reading.is_usable(values)
    return Answer(
        key=item.key,
        product=product,
        verdict=Verdict.FOUND if is_found else Verdict.NOT_FOUND,
        values=values,
        subject=Subject(
            first_name=reading.text(person.firstName),
            last_name=reading.text(person.lastName),
            provider_id=item.person.get(Datapoint.LANCE_ID),
        ),
        created_at=reading.instant(record.createdAt),
        reason=None if is_found else MATCHED_NO_DATA,
    )


def _values(
    product: str, listed: Sequence[object], observed_at: datetime | None, notes: Notes
) -> tuple[FoundValue, ...] | None:
    """The usable values; None when the entries hold nothing that could be one."""
    found: dict[str, FoundValue] = {}
    written = 0
    for entry in listed:
        part = reading.part(_Entry, entry, notes)
        if part is None:
            notes.add("wrong_type")
            continue
        if product == EMAILS:
            raw = part.value.email
            status = reading.status_of(ASSUMED_EMAIL_STATUSES, part.value.status, notes)
            values = reading.email(
                Attribute.WORK_EMAIL, raw, status, notes, observed_at=observed_at
            )
        else:
            raw = part.value.number
            values = reading.phone(raw, ValueStatus.UNKNOWN, notes, observed_at=observed_at)
        written += bool(raw and raw.strip())
        for value in values:
            found.setdefault(value.value, value)
    return tuple(found.values()) if written else None


def _error(response: HttpResponse, notes: Notes) -> Reply:
    """Assumption: errors are `{code, message}`, at top level or under `error`."""
    body = reading.json_object(response) or {}
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    code = error.get("code") or (inner if isinstance(inner, str) else None)
    message = error.get("message") or (inner if isinstance(inner, str) else None)
    disposition = reading.classify(
        _ERRORS,
        response.status,
        code=code,
        message=message,
        is_own_json=isinstance(code, str) or isinstance(message, str),
    )
    return reading.failure(disposition, response, notes, code=code, known=reading.codes_of(_ERRORS))


def _unanswered(response: HttpResponse, notes: Notes) -> Reply:
    """A status query that failed says nothing about the enrichments."""
    reply = _error(response, notes)
    if reply.disposition in (Disposition.THROTTLED, Disposition.UNAUTHORIZED):
        return reply
    return reading.failure(Disposition.NOT_READY, response, notes)


provider = Lance
