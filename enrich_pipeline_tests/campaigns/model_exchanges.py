"""The provider side of the model campaign: what five APIs answer at once, in this process.

They answer as they are told, and keep the only meter that counts, per provider and per call.
Everything they say is said twice: as the bytes that the adapters read, and as `Said`, which the
in-memory model takes for the truth. Who is known to a provider stays known, and what was drawn for
a person once is said ever after.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from enrich_pipeline.providers.http import NeverSent, ReplyLost
from enrich_pipeline.providers.protocol import HttpResponse

from ..sandbox import people
from .model_said import (
    MICRO,
    PRICES,
    REFUSALS,
    Delivery,
    Fate,
    Job,
    Outcome,
    Place,
    Said,
    Word,
    address,
    human,
    name_of,
    phone_of,
    refusal_of,
    subject_of,
    word_of,
)


@dataclass(slots=True)
class _Record:
    """An enrichment of Lance's."""

    call_id: int
    fate: Fate | None = None


class Exchanges:
    """All five, on one meter."""

    def __init__(self) -> None:
        self.charged: Counter[str] = Counter()
        self.by_call: Counter[int] = Counter()
        self.extra: Counter[str] = Counter()
        """Charged beyond any hold, and unknown to whoever lost the reply."""
        self.jobs: dict[int, Job] = {}
        self.outbox: list[Delivery] = []
        self._fates: dict[tuple[str, int, str], Fate] = {}
        self._paid: set[tuple[int, str]] = set()
        self._records: dict[tuple[int, str], _Record] = {}

    # ---- the billable request -----------------------------------------------------------------

    def receive(
        self,
        call_id: int,
        provider: str,
        group: str,
        items: Sequence[tuple[str, frozenset[str]]],
        token: str | None,
        outcome: Outcome,
        fates: Sequence[Fate],
    ) -> tuple[HttpResponse | NeverSent | ReplyLost, Said]:
        """One request of `items` (key, products): what comes back, and what it means."""
        if outcome == "unsent":
            return NeverSent("connect_error"), Said("unsent")
        if outcome == "never_arrives":
            return ReplyLost("read_timeout"), Said("lost")
        if outcome in REFUSALS:
            return refusal_of(provider, outcome), Said(outcome)
        if outcome == "garbles_unpaid":
            return HttpResponse(200, {}, b"<html>"), Said("garbled")
        before = self.charged[provider]
        body, said = getattr(self, f"_{provider}")(call_id, group, items, token, outcome, fates)
        if outcome == "charges_more" and said.cost is not None:
            self._charge(provider, call_id, 3 * MICRO)
            self.extra[provider] += 3 * MICRO
        assert said.cost is None or said.cost == self.charged[provider] - before
        if outcome == "drops_reply":
            return ReplyLost("read_error"), Said("lost")
        if outcome == "garbles":
            return HttpResponse(200, {}, b'{"truncated": '), Said("garbled")
        return HttpResponse(200, {}, json.dumps(body).encode()), said

    def _fate(self, provider: str, key: str, product: str, drawn: Sequence[Fate]) -> Fate:
        place = (provider, human(key), product)
        if place not in self._fates:
            fate = drawn[human(key) % len(drawn)]
            self._fates[place] = "miss" if fate == "failed" else fate
        return self._fates[place]

    def _charge(self, provider: str, call_id: int, micro: int) -> int:
        self.charged[provider] += micro
        self.by_call[call_id] += micro
        return micro

    def _prospeo(
        self,
        call_id: int,
        group: str,
        items: Sequence[tuple[str, frozenset[str]]],
        token: str | None,
        outcome: Outcome,
        fates: Sequence[Fate],
    ) -> tuple[dict[str, Any], Said]:
        matched: list[dict[str, Any]] = []
        missed: list[str] = []
        words: dict[Place, Word] = {}
        cost = 0
        more = 3 * MICRO if outcome == "charges_more" else 0
        for index, (key, products) in enumerate(items):
            match = self._fate("prospeo", key, "match", fates)
            mobile = self._fate("prospeo", key, "mobile", fates)
            has_mobile = match != "miss" and group == "mobile" and mobile in ("found", "weak")
            for product in ("match", *(("mobile",) if has_mobile else ())):
                paid = (human(key) + 100 * (match == "stranger"), product)
                if match != "miss" and paid not in self._paid:
                    self._paid.add(paid)
                    cost += self._charge("prospeo", call_id, PRICES["prospeo"][product] * MICRO)
            if outcome == "silent_about_one" and index == 0:
                continue
            if match == "miss":
                missed.append(key)
                words.update({(key, product): Word("not_found") for product in products})
                continue
            number, subject = human(key), subject_of("prospeo", key, match)
            email = {"revealed": True, "email": address(key, match)}
            person: dict[str, Any] = {
                "person_id": subject,
                **name_of(key, match),
                "email": {**email, "status": "CATCH_ALL" if match == "weak" else "VERIFIED"},
                "current_job_title": "Keeper",
                "mobile": {"revealed": has_mobile, "mobile": phone_of(number)}
                if has_mobile
                else {},
            }
            if match == "empty":
                person |= {"email": None, "current_job_title": None}
            matched.append({"identifier": key, "person": person})
            for product in products:
                values = (
                    {"phone": True} if product == "mobile" and has_mobile
                    else {"work_email": match != "weak", "profile": True}
                    if product == "match" and match != "empty" else {}
                )  # fmt: skip
                has_data = bool(values) or product == "match"
                words[key, product] = word_of(match, values, subject, is_charged=has_data)
        body = {
            "error": False, "matched": matched, "not_matched": missed, "invalid_datapoints": [],
            "total_cost": (cost + more) // MICRO,
        }  # fmt: skip
        said_cost: int | None = cost + more
        charged = [product for (_, product), word in words.items() if word.is_charged]
        if outcome == "states_no_cost" and cost == _tariff("prospeo", charged):
            del body["total_cost"]
            said_cost = None
        return body, Said("answered", words, is_final=True, cost=said_cost)

    def _agntdata(
        self,
        call_id: int,
        group: str,
        items: Sequence[tuple[str, frozenset[str]]],
        token: str | None,
        outcome: Outcome,
        fates: Sequence[Fate],
    ) -> tuple[dict[str, Any], Said]:
        results: list[dict[str, Any]] = []
        words: dict[Place, Word] = {}
        cost = 0
        more = 3 * MICRO if outcome == "charges_more" else 0
        for index, (key, products) in enumerate(items):
            fate = self._fate("agntdata", key, "record", fates)
            if fate != "miss":
                cost += self._charge("agntdata", call_id, MICRO)
            if outcome == "silent_about_one" and index == 0:
                continue
            number = human(key)
            person: dict[str, Any] = dict(name_of(key, fate))
            values: dict[str, bool] = {}
            if fate in ("found", "weak", "stranger"):
                person |= {"job_title": "Keeper"}
                values["profile"] = True
            if fate in ("found", "stranger"):
                person["email"] = address(key, fate)
                values["work_email"] = True
                if group == "personal_email":
                    person["personal_email"] = f"own{number}@copperfox-home.com"
                    values["personal_email"] = True
            results.append({"identifier": key, "matched": fate != "miss", "person": person})
            word = Word("not_found") if fate == "miss" else word_of(fate, values, None)
            words.update({(key, product): word for product in products})
        body: dict[str, Any] = {"success": True, "data": {"results": results}}
        if outcome != "states_no_cost":
            body["meta"] = {"costCents": (cost + more) // MICRO}
        said_cost = None if outcome == "states_no_cost" else cost + more
        return body, Said("answered", words, is_final=True, cost=said_cost)

    def _pronto(
        self,
        call_id: int,
        group: str,
        items: Sequence[tuple[str, frozenset[str]]],
        token: str | None,
        outcome: Outcome,
        fates: Sequence[Fate],
    ) -> tuple[dict[str, Any], Said]:
        self.jobs[call_id] = Job(call_id, "pronto", group, tuple(k for k, _ in items), token)
        return {"enrichment_id": f"job{call_id}"}, Said("accepted", has_job=True)

    def _lance(
        self,
        call_id: int,
        group: str,
        items: Sequence[tuple[str, frozenset[str]]],
        token: str | None,
        outcome: Outcome,
        fates: Sequence[Fate],
    ) -> tuple[dict[str, Any], Said]:
        for key, _ in items:
            known = self._records.get((human(key), group))
            if known is None or known.fate == "failed":
                self._records[human(key), group] = _Record(call_id)
        self.jobs.setdefault(
            call_id, Job(call_id, "lance", group, tuple(k for k, _ in items), None)
        )
        rows = [self._row(call_id, key, group) for key, _ in items]
        if outcome == "silent_about_one":
            rows = rows[1:] or rows
        return {"enrichments": rows}, Said("accepted")

    def _row(self, call_id: int, key: str, product: str) -> dict[str, Any]:
        record = self._records[human(key), product]
        now = datetime.now(UTC)
        created = now if record.call_id == call_id else now - timedelta(hours=1)
        status = {None: "pending", "failed": "failed"}.get(record.fate, "finished")
        return {
            "entityId": people.lance(human(key)),
            "field": product,
            "status": status,
            "dataFound": None if record.fate is None else record.fate not in ("miss", "failed"),
            "createdAt": created.isoformat(),
            "updatedAt": now.isoformat(),
        }

    def _apollo(
        self,
        call_id: int,
        group: str,
        items: Sequence[tuple[str, frozenset[str]]],
        token: str | None,
        outcome: Outcome,
        fates: Sequence[Fate],
    ) -> tuple[dict[str, Any], Said]:
        matches: list[dict[str, Any] | None] = []
        words: dict[Place, Word] = {}
        late: list[str] = []
        cost = 0
        more = 3 * MICRO if outcome == "charges_more" else 0
        for key, products in items:
            fate = self._fate("apollo", key, "match", fates)
            if fate == "miss":
                matches.append(None)
                words.update({(key, product): Word("not_found") for product in products})
                continue
            cost += self._charge("apollo", call_id, MICRO)
            number, subject = human(key), subject_of("apollo", key, fate)
            person: dict[str, Any] = {"id": subject, **name_of(key, fate)}
            values: dict[str, bool] = {}
            told: frozenset[str] = frozenset()
            if fate != "empty":
                person |= {
                    "title": "Keeper",
                    "email": address(key, fate),
                    "email_status": "extrapolated" if fate == "weak" else "verified",
                }
                values = {"profile": True, "work_email": fate != "weak"}
                if fate == "found":
                    person["linkedin_url"] = people.profile(number)
                    told = frozenset({"linkedin"})
                if "personal_email" in group.split("+"):
                    person["personal_emails"] = [f"own{number}@copperfox-home.com"]
                    values["personal_email"] = True
            matches.append(person)
            words[key, "match"] = word_of(fate, values, subject, told=told)
            if "mobile" in products:
                late.append(key)
                words[key, "mobile"] = Word("pending", subject=subject)
        body: dict[str, Any] = {"matches": matches, "request_id": f"job{call_id}"}
        if outcome != "states_no_cost":
            body["credits_consumed"] = (cost + more) // MICRO
        if late:
            self.jobs[call_id] = Job(call_id, "apollo", "mobile", tuple(late), token)
        said_cost = None if outcome == "states_no_cost" else cost + more
        kind = "accepted" if late else "answered"
        return body, Said(kind, words, is_final=not late, cost=said_cost, has_job=True)


def _tariff(provider: str, products: Sequence[str]) -> int:
    return sum(PRICES[provider][product] for product in products) * MICRO
