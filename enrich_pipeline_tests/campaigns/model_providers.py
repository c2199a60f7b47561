"""The provider side of the model campaign: five APIs in this process, answering as they are told.

They keep the only meter that counts, per provider and per call. Everything they say is said twice:
as the bytes that the adapters read, and as `Said`, which the in-memory model takes for the truth.
Who is known to a provider stays known, and what was drawn for a person once is said ever after.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from enrich_pipeline.providers.http import NeverSent, ReplyLost
from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse

from ..sandbox import people

MICRO = 1_000_000
PRICES: Mapping[str, Mapping[str, int]] = {
    "prospeo": {"match": 1, "mobile": 9},
    "agntdata": {"record": 1},
    "pronto": {"email": 1, "phone": 10, "personal_email": 10},
    "lance": {"emails": 1, "phones": 10},
    "apollo": {"match": 1, "mobile": 8},
}
"""In credits; a credit is a dollar in this campaign, so that dollars need no rounding."""

Fate = str
FATES = ("found", "weak", "miss", "empty", "stranger", "failed")
"""What a provider has of a person: accepted values, unaccepted ones, none, a match without any,
somebody else's, or only a failure of its own."""

Outcome = str
OUTCOMES = (
    "replies", "silent_about_one", "states_no_cost", "charges_more", "drops_reply", "never_arrives",
    "unsent", "garbles", "garbles_unpaid", "throttled", "transient", "no_credits", "unauthorized",
    "invalid",
)  # fmt: skip
"""What becomes of one exchange."""
REFUSALS = frozenset({"throttled", "transient", "no_credits", "unauthorized", "invalid"})

Place = tuple[str, str]
"""(item key, product)."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a provider said of one product of one person.

    `values`: field -> whether it is good enough to be accepted. `is_charged` by its documents, were
    it the first to ask. `subject`: its id of the person. `told`: kinds of identifiers it reported.
    """

    verdict: str
    values: Mapping[str, bool] = field(default_factory=dict)
    is_charged: bool = False
    is_late: bool = False
    """Work that was done before this call asked for it."""
    subject: str | None = None
    told: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Said:
    """One reply, delivery or poll answer, as its provider means it."""

    kind: str
    words: Mapping[Place, Word] = field(default_factory=dict)
    is_final: bool = False
    cost: int | None = None
    has_job: bool = False


@dataclass(slots=True)
class Job:
    """Work that a provider took on and has not finished."""

    call_id: int
    provider: str
    product: str
    keys: tuple[str, ...]
    token: str | None
    results: dict[str, Fate] = field(default_factory=dict)

    @property
    def open_keys(self) -> list[str]:
        return [key for key in self.keys if key not in self.results]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is on its way."""

    call_id: int
    provider: str
    token: str
    body: bytes
    said: Said


@dataclass(slots=True)
class _Record:
    """An enrichment of Lance's."""

    call_id: int
    fate: Fate | None = None


def human(key: str) -> int:
    """Whom an item is about: the fifth person is the fourth one's other contact."""
    return min(int(key[1:]) - 1, 3)


def address(key: str, fate: Fate) -> str:
    return "otto@quittenbaum.com" if fate == "stranger" else people.email(human(key))


class Providers:
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
            return _refusal(provider, outcome), Said(outcome)
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
            number, subject = human(key), _subject("prospeo", key, match)
            email = {"revealed": True, "email": address(key, match)}
            person: dict[str, Any] = {
                "person_id": subject,
                **_name(key, match),
                "email": {**email, "status": "CATCH_ALL" if match == "weak" else "VERIFIED"},
                "current_job_title": "Keeper",
                "mobile": {"revealed": has_mobile, "mobile": _phone(number)} if has_mobile else {},
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
                words[key, product] = _word(match, values, subject, is_charged=has_data)
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
            person: dict[str, Any] = dict(_name(key, fate))
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
            word = Word("not_found") if fate == "miss" else _word(fate, values, None)
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
            number, subject = human(key), _subject("apollo", key, fate)
            person: dict[str, Any] = {"id": subject, **_name(key, fate)}
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
            words[key, "match"] = _word(fate, values, subject, told=told)
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

    # ---- what comes later ---------------------------------------------------------------------

    def work(self, job: Job, fates: Sequence[Fate]) -> None:
        """The provider does what it took on; webhooks set out."""
        done = job.open_keys
        for key in done:
            fate = fates[human(key) % len(fates)]
            if job.provider == "lance":
                fate = self._finish_record(job, key, fate)
            elif job.provider == "apollo":
                fate = "found" if fate in ("found", "weak", "stranger") else "miss"
            job.results[key] = fate
            if job.provider != "lance" and fate not in ("miss", "failed"):
                price = PRICES[job.provider][job.product] * MICRO
                self._charge(job.provider, job.call_id, price)
        if job.provider == "pronto" and job.token:
            for key in done:
                body, said = self._contact(job, key)
                self._send_out(job, body, said)
        elif job.provider == "apollo" and job.token:
            self._send_out(job, *self._payload(job))

    def _finish_record(self, job: Job, key: str, fate: Fate) -> Fate:
        record = self._records[human(key), job.product]
        if record.fate is None:
            record.fate = fate
            if fate not in ("miss", "failed"):
                price = PRICES["lance"][job.product] * MICRO
                self._charge("lance", record.call_id, price)
        return record.fate

    def _send_out(self, job: Job, body: Mapping[str, Any], said: Said) -> None:
        assert job.token is not None
        content = json.dumps(body).encode()
        self.outbox.append(Delivery(job.call_id, job.provider, job.token, content, said))

    def _contact(self, job: Job, key: str) -> tuple[dict[str, Any], Said]:
        fate, number = job.results[key], human(key)
        name = _name(key, fate)
        body: dict[str, Any] = {
            "enrichment_id": f"job{job.call_id}",
            "custom": {"ref": key},
            "status": "failed" if fate == "failed" else "finished",
            **name,
        }
        field_of = {"email": "work_email"}.get(job.product, job.product)
        if fate == "failed":
            word = Word("failed")
        elif fate == "miss":
            word = Word("not_found")
            body[job.product] = None
        else:
            usable = fate != "empty"
            raw = {"email": address(key, fate), "phone": _phone(number)}.get(
                job.product, f"own{number}@copperfox-home.com"
            )
            body[job.product] = raw if usable else "locked ****"
            weak_word = "catch-all" if job.product != "phone" else "valid"
            body[f"{job.product}_status"] = weak_word if fate == "weak" else "valid"
            is_good = fate != "weak" or job.product == "phone"
            word = _word(fate, {field_of: is_good} if usable else {}, None)
        is_final = len(job.keys) == 1
        return body, Said("answered", {(key, job.product): word}, is_final=is_final)

    def _payload(self, job: Job) -> tuple[dict[str, Any], Said]:
        """All mobiles of one of Apollo's calls in one delivery."""
        listed = []
        words: dict[Place, Word] = {}
        cost = 0
        for key in job.keys:
            match = self._fates["apollo", human(key), "match"]
            subject = _subject("apollo", key, match)
            person: dict[str, Any] = {"id": subject, "phone_numbers": []}
            if job.results[key] == "found":
                number = {"sanitized_number": _phone(human(key)), "type_cd": "mobile"}
                person["phone_numbers"] = [{**number, "status_cd": "valid_number"}]
                words[key, "mobile"] = Word("found", {"phone": True}, True, subject=subject)
                cost += PRICES["apollo"]["mobile"] * MICRO
            else:
                words[key, "mobile"] = Word("not_found", subject=subject)
            listed.append(person)
        body = {
            "status": "success",
            "total_requested_enrichments": len(job.keys),
            "credits_consumed": cost // MICRO,
            "people": listed,
        }
        return body, Said("answered", words, is_final=True, cost=cost)

    # ---- polls --------------------------------------------------------------------------------

    def poll(self, call_id: int, provider: str, request: HttpRequest) -> HttpResponse:
        """One free request about one call."""
        job = self.jobs[call_id]
        if provider == "lance":
            return _json(self._lance_poll(job, request))
        if job.open_keys:
            if provider == "pronto":
                return _json({"enrichment_id": f"job{call_id}", "status": "pending"})
            return _json({"webhook_status": "in_progress"})
        if provider == "pronto":
            return _json(self._contact(job, job.keys[0])[0])
        return _json({"webhook_status": "success", "webhook_result": self._payload(job)[0]})

    def _lance_poll(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        if request.method == "POST":
            return {"enrichments": [self._row(job.call_id, key, job.product) for key in job.keys]}
        key = next(k for k in job.keys if request.path.endswith(people.lance(human(k))))
        record = self._records[human(key), job.product]
        assert record.fate is not None
        entity: dict[str, Any] = {"id": people.lance(human(key)), **_lance_name(key, record.fate)}
        masked = record.fate == "empty"
        if job.product == "emails":
            status = "unverified" if record.fate == "weak" else "verified"
            email = "locked ****" if masked else address(key, record.fate)
            return entity | {"emails": [{"email": email, "status": status}]}
        return entity | {"phones": [{"number": "+49 ****" if masked else _phone(human(key))}]}

    def polled(self, call_id: int) -> Said:
        """What a poll of this call says now, if it is answered."""
        job = self.jobs.get(call_id)
        if job is None:
            return Said("not_ready")
        if job.provider == "lance":
            return self._lance_said(job)
        if job.open_keys:
            return Said("not_ready")
        if job.provider == "pronto":
            return self._contact(job, job.keys[0])[1]
        return self._payload(job)[1]

    def _lance_said(self, job: Job) -> Said:
        words: dict[Place, Word] = {}
        field_of = {"emails": "work_email", "phones": "phone"}[job.product]
        for key in job.keys:
            record = self._records[human(key), job.product]
            is_older = record.call_id != job.call_id
            if record.fate is None:
                continue
            if record.fate in ("miss", "failed"):
                verdict = "failed" if record.fate == "failed" else "not_found"
                words[key, job.product] = Word(verdict, is_late=is_older)
                continue
            good = record.fate != "weak" or job.product == "phones"
            values = {} if record.fate == "empty" else {field_of: good}
            words[key, job.product] = _word(record.fate, values, None, is_late=is_older)
        kind = "answered" if words else "not_ready"
        return Said(kind, words, is_final=len(words) == len(job.keys))

    def is_done_with(self, call_id: int) -> bool:
        """Whether nothing of this call can cost anything any more."""
        job = self.jobs.get(call_id)
        return job is None or not job.open_keys


def _tariff(provider: str, products: Sequence[str]) -> int:
    return sum(PRICES[provider][product] for product in products) * MICRO


def _word(
    fate: Fate,
    values: Mapping[str, bool],
    subject: str | None,
    *,
    is_charged: bool = True,
    is_late: bool = False,
    told: frozenset[str] = frozenset(),
) -> Word:
    """A match: with values it is found, or somebody else's; without any it is a paid miss."""
    if not values:
        return Word("not_found", {}, is_charged, is_late, subject)
    verdict = "other_person" if fate == "stranger" else "found"
    kinds = told | ({"email"} if "work_email" in values else frozenset())
    return Word(verdict, values, True, is_late, subject, kinds)


def _name(key: str, fate: Fate) -> dict[str, str]:
    if fate == "stranger":
        return {"first_name": "Otto", "last_name": "Quittenbaum"}
    return {"first_name": people.first(human(key)), "last_name": people.last(human(key))}


def _lance_name(key: str, fate: Fate) -> dict[str, str]:
    name = _name(key, fate)
    return {"firstName": name["first_name"], "lastName": name["last_name"]}


def _subject(provider: str, key: str, fate: Fate) -> str:
    return f"{provider}{human(key)}{'other' if fate == 'stranger' else ''}"


def _phone(number: int) -> str:
    return f"+4930901820{number:02d}"


def _json(body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(200, {}, json.dumps(body).encode())


_REFUSED: Mapping[tuple[str, str], tuple[int, dict[str, Any]]] = {
    ("prospeo", "throttled"): (429, {"error": True, "error_code": "RATE_LIMITED"}),
    ("prospeo", "transient"): (400, {"error": True, "error_code": "INTERNAL_ERROR"}),
    ("prospeo", "no_credits"): (400, {"error": True, "error_code": "INSUFFICIENT_CREDITS"}),
    ("prospeo", "unauthorized"): (401, {"error": True, "error_code": "INVALID_API_KEY"}),
    ("prospeo", "invalid"): (400, {"error": True, "error_code": "INVALID_REQUEST"}),
    ("agntdata", "throttled"): (429, {"success": False, "error": {"code": "RATE_LIMITED"}}),
    ("agntdata", "transient"): (500, {"success": False, "error": {"code": "INTERNAL_ERROR"}}),
    ("agntdata", "no_credits"):
        (402, {"success": False, "error": {"code": "INSUFFICIENT_CREDITS"}}),
    ("agntdata", "unauthorized"): (401, {"success": False, "error": {"code": "UNAUTHORIZED"}}),
    ("agntdata", "invalid"): (400, {"success": False, "error": {"code": "VALIDATION_ERROR"}}),
    ("pronto", "throttled"): (429, {"error": "slow down"}),
    ("pronto", "transient"): (429, {"error": "slow down"}),
    ("pronto", "no_credits"): (422, {"error": "insufficient credits"}),
    ("pronto", "unauthorized"): (401, {"error": "who are you"}),
    ("pronto", "invalid"): (422, {"error": "firstname is invalid"}),
    ("lance", "throttled"): (429, {"message": "slow down"}),
    ("lance", "transient"): (500, {"code": "INTERNAL_ERROR", "message": "sorry"}),
    ("lance", "no_credits"): (402, {"code": "INSUFFICIENT_CREDITS", "message": "pay"}),
    ("lance", "unauthorized"): (401, {"code": "VALIDATION_ERROR", "message": "who are you"}),
    ("lance", "invalid"): (400, {"code": "VALIDATION_ERROR", "message": "which id"}),
    ("apollo", "throttled"): (429, {"message": "slow down"}),
    ("apollo", "transient"): (429, {"message": "slow down"}),
    ("apollo", "no_credits"): (402, {"error": "pay"}),
    ("apollo", "unauthorized"): (401, {"error": "who are you"}),
    ("apollo", "invalid"): (422, {"error_code": "UNKNOWN_ERROR"}),
}  # fmt: skip


def _refusal(provider: str, outcome: str) -> HttpResponse:
    status, body = _REFUSED[provider, outcome]
    return HttpResponse(status, {}, json.dumps(body).encode())
