"""What every script in place of the pipeline has to know: who is asked next, how, what answers say.

Of the standard library alone, and without input or output: `Waterfall` says which calls are due,
`talk` is one call as a conversation that a script carries out in its own way. Nothing here is safe:
no ledger, no budget, no doubt, nobody is compared with whom was asked for.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROFILE = ("job_title", "company_name", "company_domain", "linkedin_profile", "location")
COLUMNS = ("work_email", "phone", "personal_email", *PROFILE)
MAXIMUM = {"prospeo": 50, "agntdata": 100, "pronto": 100, "lance": 100, "apollo": 10}
MATCHED = frozenset({"work_email", "profile"})
AGNTDATA_FIELDS = (
    "email", "job_title", "company_name", "company_domain", "linkedin_url", "location",
    "personal_email",
)  # fmt: skip

Values = dict[str, str]
"""Column -> value, of what an answer holds."""


@dataclass(frozen=True, slots=True)
class Night:
    """What `night.json` says: the database, the providers, and whom to ask for what."""

    database: str
    addresses: Mapping[str, str]
    headers: Mapping[str, Mapping[str, str]]
    waterfalls: Mapping[str, Sequence[str]]
    chain: Sequence[str]
    receiver_port: int
    contacts: int
    """At most so many are taken."""

    @classmethod
    def here(cls) -> "Night":
        return cls(**json.loads(Path("night.json").read_text()))

    def sent(self, provider: str, request: "Request") -> dict[str, Any]:
        """A request to a provider, as httpx takes it."""
        return {
            "method": request.method,
            "url": self.addresses[provider] + request.path,
            "json": request.body,
            "params": request.query,
            "headers": self.headers[provider],
        }

    @property
    def query(self) -> str:
        return f"select * from crm.contacts order by contact_id limit {self.contacts}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a provider. `kind` is what is asked of everybody in it."""

    number: int
    provider: str
    kind: frozenset[str]
    contacts: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Wait for so many deliveries to the address of the call."""

    number: int


class Later:
    """Nothing is ready yet: wait a while."""


Step = Sequence[Request] | Deliveries | Later
Talk = Generator[Step, list[Any], dict[str, Values]]
"""Yields what to do next, is sent the JSON of the replies or deliveries; values by contact_id."""


class Waterfall:
    """Where every field of every contact stands."""

    def __init__(
        self, contacts: Iterable[Mapping[str, Any]], waterfalls: Mapping[str, Sequence[str]]
    ) -> None:
        self._contacts = {str(each["contact_id"]): each for each in contacts}
        self._left = {
            contact: {name: list(order) for name, order in waterfalls.items()}
            for contact in self._contacts
        }
        self._heard: dict[tuple[str, str], tuple[set[str], Values]] = {}
        self._numbers = itertools.count(1)
        self.values: dict[str, Values] = {contact: {} for contact in self._contacts}

    def calls(self, provider: str) -> list[Call]:
        """Full calls for everybody with a field at this provider that it has not been asked for."""
        waiting: dict[frozenset[str], list[str]] = defaultdict(list)
        for contact in self._contacts:
            wanted = self._wanted(contact, provider)
            for kind in _kinds(provider, wanted):
                waiting[kind].append(contact)
        return [
            Call(next(self._numbers), provider, kind, [self._contacts[each] for each in chunk])
            for kind, members in waiting.items()
            for chunk in _full(members, MAXIMUM[provider])
        ]

    def answered(self, call: Call, answers: Mapping[str, Values]) -> None:
        """What was found is kept; what was not goes on to the next provider."""
        for row in call.contacts:
            contact = str(row["contact_id"])
            fields, heard = self._heard.setdefault((contact, call.provider), (set(), {}))
            fields |= _answers(call)
            heard.update(answers.get(contact, {}))
            for name in _answers(call):
                self._use(contact, name, call.provider)

    def rows(self) -> list[dict[str, str | None]]:
        """A row per contact: its id and every column."""
        return [
            {"contact_id": contact, **{name: values.get(name) for name in COLUMNS}}
            for contact, values in self.values.items()
        ]

    def _wanted(self, contact: str, provider: str) -> frozenset[str]:
        asked, _ = self._heard.get((contact, provider), (set(), {}))
        wanted = {n for n, order in self._left[contact].items() if order[:1] == [provider]}
        for name in wanted & asked:
            self._use(contact, name, provider)
        return frozenset(wanted - asked)

    def _use(self, contact: str, name: str, provider: str) -> None:
        left = self._left[contact][name]
        if left[:1] != [provider]:
            return
        _, heard = self._heard[contact, provider]
        found = {c: heard[c] for c in (PROFILE if name == "profile" else (name,)) if c in heard}
        self.values[contact].update(found)
        del left[: len(left) if found else 1]


def _full(members: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (members[start : start + size] for start in range(0, len(members), size))


def _kinds(provider: str, wanted: frozenset[str]) -> list[frozenset[str]]:
    if not wanted:
        return []
    if provider in ("pronto", "lance"):
        return [frozenset({name}) for name in sorted(wanted)]
    if provider == "agntdata":
        return [MATCHED | {"personal_email"}]
    match = MATCHED if provider == "prospeo" else MATCHED | {"personal_email"}
    phone = wanted & {"phone"}
    return [(match if wanted & match else frozenset()) | phone]


def _answers(call: Call) -> frozenset[str]:
    """The fields that the provider has said its word on after this call."""
    return call.kind | MATCHED if call.provider in ("prospeo", "apollo") else call.kind


def talk(call: Call, address: str) -> Talk:
    """One call, to its last result. `address` is where webhooks of this call are to go."""
    return _TALKS[call.provider](call, address)


# ---- the providers --------------------------------------------------------------------------


def _prospeo(call: Call, address: str) -> Talk:
    data = [
        {
            "identifier": row["contact_id"],
            "first_name": row["first_name"],
            "last_name": row["last_name"],
            "linkedin_url": row["linkedin_url"],
            "email": row["email"],
            "company_name": row["company_name"],
            "company_website": row["company_domain"],
        }
        for row in call.contacts
    ]
    body = {
        "only_verified_email": False,
        "enrich_mobile": "phone" in call.kind,
        "only_verified_mobile": False,
        "data": data,
    }
    (reply,) = yield [Request("POST", "/bulk-enrich-person", body)]
    found = {}
    for match in reply["matched"]:
        person, company = match["person"], match["company"]
        email, mobile = person["email"], person["mobile"]
        found[match["identifier"]] = _values(
            work_email=email["email"] if email["revealed"] else None,
            phone=mobile["mobile"] if mobile["revealed"] else None,
            job_title=person["current_job_title"],
            company_name=company["name"],
            company_domain=company["domain"],
            linkedin_profile=person["linkedin_url"],
            location=_joined(person["location"], "city", "state", "country"),
        )
    return found


def _agntdata(call: Call, address: str) -> Talk:
    inputs = [
        {
            "identifier": row["contact_id"],
            "linkedin_url": row["linkedin_url"],
            "email": row["email"],
        }
        for row in call.contacts
    ]
    body = {"inputs": inputs, "fields": AGNTDATA_FIELDS, "max_cost_cents_per_record": 1}
    (reply,) = yield [Request("POST", "/people/bulk-enrich", body)]
    return {
        record["identifier"]: _values(
            work_email=record["person"]["email"],
            personal_email=record["person"]["personal_email"],
            job_title=record["person"]["job_title"],
            company_name=record["person"]["company_name"],
            company_domain=record["person"]["company_domain"],
            linkedin_profile=record["person"]["linkedin_url"],
            location=record["person"]["location"],
        )
        for record in reply["data"]["results"]
        if record["matched"]
    }


def _pronto(call: Call, address: str) -> Talk:
    (wanted,) = call.kind
    contacts = [
        {
            "firstname": row["first_name"],
            "lastname": row["last_name"],
            "domain": row["company_domain"],
            "company_name": row["company_name"],
            "linkedin_url": row["linkedin_url"],
            "custom": {"ref": row["contact_id"]},
        }
        for row in call.contacts
    ]
    shared = {
        "enrichment_type": ["email" if wanted == "work_email" else wanted],
        "webhook_url": address,
    }
    if len(contacts) == 1:
        yield [Request("POST", "/contacts/single_enrich", {**shared, **contacts[0]})]
    else:
        yield [Request("POST", "/contacts/bulk_enrich", {**shared, "contacts": contacts})]
    delivered = yield Deliveries(len(contacts))
    return {
        each["custom"]["ref"]: _values(
            work_email=each["email"],
            personal_email=each["personal_email"],
            phone=next(iter(each["phone"]), None),
        )
        for each in delivered
    }


def _lance(call: Call, address: str) -> Talk:
    (wanted,) = call.kind
    sold = "emails" if wanted == "work_email" else "phones"
    persons = {row["lance_person_id"]: row["contact_id"] for row in call.contacts}
    yield [
        Request("POST", "/operations/enrichment/batch", {"personIds": list(persons), "field": sold})
    ]
    tasks = [{"entityId": each, "field": sold, "entityType": "person"} for each in persons]
    query = [Request("POST", "/operations/enrichment/batch/query", {"tasks": tasks})]
    (records,) = yield query
    while any(record["status"] == "pending" for record in records):
        yield Later()
        (records,) = yield query
    ready = [record["entityId"] for record in records if record["dataFound"]]
    entities = yield [Request("GET", f"/entities/persons/{each}") for each in ready]
    return {
        persons[entity["id"]]: _values(
            work_email=next((each["email"] for each in entity["emails"]), None),
            phone=next((each["number"] for each in entity["phones"]), None),
        )
        for entity in entities
    }


def _apollo(call: Call, address: str) -> Talk:
    details = [
        {
            "first_name": row["first_name"],
            "last_name": row["last_name"],
            "email": row["email"],
            "organization_name": row["company_name"],
            "domain": row["company_domain"],
            "linkedin_url": row["linkedin_url"],
        }
        for row in call.contacts
    ]
    query = {"reveal_personal_emails": "true"} if "personal_email" in call.kind else {}
    if "phone" in call.kind:
        query |= {"reveal_phone_number": "true", "webhook_url": address}
    (reply,) = yield [Request("POST", "/people/bulk_match", {"details": details}, query)]
    found: dict[str, Values] = {}
    persons: dict[str, str] = {}
    for row, match in zip(call.contacts, reply["matches"], strict=True):
        if match is not None:
            persons[match["id"]] = row["contact_id"]
            found[row["contact_id"]] = _values(
                work_email=match["email"],
                personal_email=next(iter(match.get("personal_emails", ())), None),
                job_title=match["title"],
                company_name=match["organization"]["name"],
                company_domain=match["organization"]["primary_domain"],
                linkedin_profile=match["linkedin_url"],
                location=_joined(match, "city", "state", "country"),
            )
    if reply.get("phone_enrichment", {}).get("status") == "pending":
        (delivery,) = yield Deliveries(1)
        for person in delivery["people"]:
            numbers = [each["sanitized_number"] for each in person["phone_numbers"]]
            found[persons[person["id"]]] |= _values(phone=next(iter(numbers), None))
    return found


_TALKS = {
    "prospeo": _prospeo,
    "agntdata": _agntdata,
    "pronto": _pronto,
    "lance": _lance,
    "apollo": _apollo,
}


def _values(**columns: str | None) -> Values:
    return {name: value for name, value in columns.items() if value}


def _joined(place: Mapping[str, Any], *parts: str) -> str:
    return ", ".join(str(place[part]) for part in parts if place.get(part))
