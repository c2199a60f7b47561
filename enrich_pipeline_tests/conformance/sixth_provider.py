"""Hexagon, an imaginary provider in one file: what adding a provider takes, and no more.

Follows nobody's API reference. Synchronous, up to 25 persons by e-mail or LinkedIn profile, 2
credits for a phone, the cost of each call reported, a repeat charged again.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from enrich_pipeline.domain.enrichment import Field, ValueStatus
from enrich_pipeline.providers import reading
from enrich_pipeline.providers.protocol import (
    Answer,
    Call,
    Datapoint,
    Disposition,
    HttpRequest,
    HttpResponse,
    InDoubtPolicy,
    Item,
    Limits,
    Offer,
    Provider,
    Reply,
    Subject,
    Verdict,
)
from enrich_pipeline.providers.reading import ErrorRule, Loose, Notes, Part, RollCall

PHONE: Final = "phone"
STATUSES: Final = {"confirmed": ValueStatus.VERIFIED, "listed": ValueStatus.UNVERIFIED}
ERRORS: Final = (
    ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
    ErrorRule(Disposition.UNAUTHORIZED, status=401, code="bad_key"),
    ErrorRule(Disposition.NO_CREDITS, status=402, code="no_credits"),
    ErrorRule(Disposition.INVALID, status=400, code="bad_record"),
)


class _Result(Loose):
    id: str | None = None
    outcome: str | None = None
    name: str | None = None
    phone: str | None = None
    status: str | None = None


class Hexagon(Provider):
    name = "hexagon"
    title = "Hexagon"
    default_base_url = "https://api.hexagon.example/v1"
    unit = "credit"
    limits = Limits(minimum=1, maximum=25)
    in_doubt = InDoubtPolicy.AT_MOST_ONCE
    default_prices: ClassVar[Mapping[str, str]] = {PHONE: "2"}

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        return (
            Offer(
                product=PHONE,
                fields=(Field.PHONE,),
                requires=(frozenset({Datapoint.EMAIL}), frozenset({Datapoint.LINKEDIN})),
                identity=(Datapoint.EMAIL, Datapoint.LINKEDIN),
            ),
        )

    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        return (("", tuple(offers)),) if offers else ()

    def headers(self, api_key: str) -> dict[str, str]:
        return {"X-Hexagon-Key": api_key}

    def request(self, call: Call) -> HttpRequest:
        records = []
        for item in call.items:
            known = {"email": item.person.get(Datapoint.EMAIL), "url": item.person.linkedin_url}
            records.append({"id": item.key} | {k: v for k, v in known.items() if v})
        return HttpRequest("POST", "/phones", json={"records": records})

    def read(self, call: Call, response: HttpResponse) -> Reply:
        notes = Notes()
        body = reading.json_object(response) or {}
        results = body.get("results")
        if response.status != 200:
            code = body.get("error")
            own = isinstance(code, str)
            disposition = reading.classify(ERRORS, response.status, code=code, is_own_json=own)
            return reading.failure(
                disposition, response, notes, code=code, known=reading.codes_of(ERRORS)
            )
        if not isinstance(results, list) or not results:
            return reading.not_understood("unreadable_reply", notes)
        roll = RollCall({item.key: item for item in call.items}, notes)
        answers = []
        for raw in results:
            part = reading.part(_Result, raw, notes)
            item = roll.take(part.value.id) if part else None
            if part and item and (answer := _answer(part, item, notes)):
                answers.append(answer)
        roll.close()
        if not answers:
            return reading.not_understood("no_verdicts", notes)
        return Reply(
            Disposition.ANSWERED,
            tuple(answers),
            cost_micro=reading.cost_micro(body.get("cost"), notes),
            anomalies=notes.codes(),
        )

    def balance_request(self) -> HttpRequest:
        return HttpRequest("GET", "/balance")

    def read_balance(self, response: HttpResponse) -> int | None:
        body = reading.json_object(response)
        if response.status != 200 or body is None:
            return None
        return reading.amount_micro(body.get("credits"))


def _answer(part: Part[_Result], item: Item, notes: Notes) -> Answer | None:
    result = part.value
    status = reading.status_of(STATUSES, result.status, notes)
    values = reading.phone(result.phone, status, notes)
    if reading.is_usable(values):
        subject = Subject(full_name=reading.text(result.name))
        return Answer(item.key, PHONE, Verdict.FOUND, values, subject)
    if result.outcome == "none" and not part.is_damaged:
        return Answer(item.key, PHONE, Verdict.NOT_FOUND, reason="not_matched")
    notes.add("unreadable_item")
    return None


provider = Hexagon
