"""Lance, simulated: batch enrichment by person UUID, polling, values at the person.

POST /operations/enrichment/batch, POST /operations/enrichment/batch/query, GET
/entities/persons/{personId}, GET /operations/credits/balance. Follows the Lance API reference,
"Batch enrichment". A pending or finished enrichment is reused and never charged again; one that
failed, timed out or was cancelled is created anew. Charged when it finishes with data.
"""

import heapq
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from . import identifiers as ids
from .answers import View, mobile_share
from .humans import SPAN, Asked, Dice, Human, fingerprint
from .serving import Call, Endpoint, Provider, Refused, Reply
from .world import plain_number

MAXIMUM = 100
MAXIMUM_TASKS = 200
FIELDS = ("phones", "emails")
_BROKEN = ("failed", "timed_out", "cancelled")
_ORGANIZATION = "org_sandbox"


@dataclass(slots=True)
class _Enrichment:
    """One enrichment of one field of one person; times are epoch seconds."""

    id: str
    entity: str
    field: str
    human: Human | None
    call: int
    epoch: int
    attempt: int
    created_at: float
    due_at: float
    updated_at: float
    status: str = "pending"
    has_data: bool | None = None

    @property
    def is_reusable(self) -> bool:
        return self.status in ("pending", "finished")

    def as_json(self) -> dict[str, Any]:
        broken = self.status in _BROKEN
        return {
            "id": self.id,
            "createdAt": _iso(self.created_at),
            "updatedAt": _iso(self.updated_at),
            "entityId": self.entity,
            "entityType": "person",
            "field": self.field,
            "status": self.status,
            "error": f"Enrichment {self.status}" if broken else None,
            "dataFound": self.has_data,
            "createdBy": "user_sandbox",
            "orgId": _ORGANIZATION,
            "globalEnrichmentId": None,
            "creditTransactionId": f"ct_{self.id[:8]}" if self.has_data else None,
        }


class Lance(Provider):
    name: ClassVar[str] = "lance"

    def reset(self) -> None:
        self._known: dict[tuple[str, str], _Enrichment] = {}
        self._due: list[tuple[float, int, _Enrichment]] = []
        self._serial = 0
        # Charged in an earlier run of this sandbox: such results are still there, and free.
        self._bought = {
            (c.human, c.product, c.identifiers) for c in self.world.meter if c.provider == self.name
        }

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/operations/enrichment/batch", self._batch, is_billable=True),
            Endpoint("POST", "/operations/enrichment/batch/query", self._query),
            Endpoint("GET", "/entities/persons/{personId}", self._person),
            Endpoint("GET", "/operations/credits/balance", self._balance),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() if scheme == "Bearer" else ""

    def unauthorized(self) -> Reply:
        return _error(401, "VALIDATION_ERROR", "Missing user ID or organization ID")

    def rate_limited(self, seconds: float) -> Reply:
        reply = _error(429, "RATE_LIMITED", "Too many requests")
        reply.headers["Retry-After"] = str(max(1, round(seconds + 0.5)))
        return reply

    def insufficient(self) -> Reply:
        return _error(402, "INSUFFICIENT_CREDITS", "Not enough credits")

    def invalid(self, message: str) -> Reply:
        return _error(400, "VALIDATION_ERROR", message)

    def failure(self, status: int) -> Reply:
        return _error(status, "INTERNAL_ERROR", "Server error during enrichment processing")

    def records_of(self, body: Any) -> Any:
        return body.get("personIds", body.get("tasks"))

    def human_of(self, record: Any) -> Human | None:
        entity = ids.uuid4(record)
        return self.world.resolve(Asked(lance_id=entity)) if entity else None

    def items_of(self, body: Any) -> list[Any] | None:
        return body if isinstance(body, list) else None

    def settle(self) -> None:
        now = time.time()
        while self._due and self._due[0][0] <= now:
            self._finish(heapq.heappop(self._due)[2])

    def _balance(self, call: Call) -> Reply:
        left = plain_number(self.world.balance(self.name))
        return Reply({"balance": left, "organizationId": _ORGANIZATION})

    def _batch(self, call: Call) -> Reply:
        body = self.json_object(call, frozenset({"personIds", "field"}))
        entities = self._checked(body)
        field = body["field"]
        new = [e for e in entities if not self._is_reusable(e, field)]
        price = self.world.prices[f"lance.{field}"]
        if not self.world.can_afford(self.name, price * len(new)):
            raise Refused("insufficient", self.insufficient())
        now = time.time()
        for entity in new:
            self._create(call, entity, field, now)
        return Reply([self._known[entity, field].as_json() for entity in entities])

    def _query(self, call: Call) -> Reply:
        body = self.json_object(call, frozenset({"tasks"}))
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not 1 <= len(tasks) <= MAXIMUM_TASKS:
            raise self.broken("batch_size", f"tasks must hold 1 to {MAXIMUM_TASKS} tasks")
        found: list[dict[str, Any]] = []
        for task in tasks:
            if not isinstance(task, dict):
                raise self.broken("task_not_object", "Each task must be an object")
            self.only_strings(task, frozenset({"entityId", "field", "entityType"}))
            entity = task.get("entityId", "")
            self._check_entity(entity)
            if task.get("field") not in FIELDS or task.get("entityType") != "person":
                raise self.broken("task", "field or entityType is wrong")
            known = self._known.get((entity.lower(), task["field"]))
            if known is not None:
                found.append(known.as_json())
        return Reply(found)

    def _person(self, call: Call) -> Reply:
        entity = call.path["personId"]
        self._check_entity(entity)
        entity = entity.lower()
        known = [self._known.get((entity, field)) for field in FIELDS]
        human = self.world.resolve(Asked(lance_id=entity))
        if human is None or not any(known):
            raise Refused("unknown", _error(404, "NOT_FOUND", "Person not found"))
        epoch = next((e.epoch for e in known if e is not None and e.has_data), None)
        view = self.world.answers.view(human, self.name, epoch, bool(human.facts.last))
        is_named = view.truth.is_name_known or view.is_other_person
        reply: dict[str, Any] = {
            "id": entity,
            "firstName": view.first if is_named else None,
            "lastName": view.last if is_named else None,
            "emails": [],
            "phones": [],
        }
        for enrichment in known:
            if enrichment is None or not enrichment.has_data:
                continue
            # What an enrichment found does not change when the person changes jobs later.
            then = self.world.answers.view(
                human, self.name, enrichment.epoch, bool(human.facts.last)
            )
            reply[enrichment.field] = [self._value(then, enrichment.field)]
        return Reply(reply)

    def _checked(self, body: dict[str, Any]) -> list[str]:
        entities = body.get("personIds")
        if not isinstance(entities, list) or not 1 <= len(entities) <= MAXIMUM:
            raise self.broken("batch_size", f"personIds must hold 1 to {MAXIMUM} ids")
        if body.get("field") not in FIELDS:
            raise self.broken("field", "field must be phones or emails")
        for entity in entities:
            self._check_entity(entity)
        lowered = [entity.lower() for entity in entities]
        if len(set(lowered)) != len(lowered):
            raise self.broken("duplicate_identifier", "personIds must be distinct")
        return lowered

    def _check_entity(self, entity: Any) -> None:
        if not isinstance(entity, str) or (ids.uuid4(entity) or "") != entity.lower():
            raise self.broken("not_a_uuid", "Each id must be a valid UUID v4")

    def _is_reusable(self, entity: str, field: str) -> bool:
        known = self._known.get((entity, field))
        return known is not None and known.is_reusable

    def _create(self, call: Call, entity: str, field: str, now: float) -> None:
        earlier = self._known.get((entity, field))
        human = self.world.resolve(Asked(lance_id=entity))
        enrichment = _Enrichment(
            id=str(uuid.uuid4()),
            entity=entity,
            field=field,
            human=human,
            call=call.number,
            epoch=self.world.answers.epoch,
            attempt=earlier.attempt + 1 if earlier else 0,
            created_at=now,
            due_at=now,
            updated_at=now,
        )
        enrichment.due_at += self._delay(enrichment)
        if human is not None:
            if (human.number, field, fingerprint(Asked(lance_id=entity))) in self._bought:
                enrichment.status, enrichment.has_data = "finished", True
            else:
                call.charged.append(human)
        self._known[entity, field] = enrichment
        if enrichment.status == "pending":
            self.world.reserved[self.name] += self.world.prices[f"lance.{field}"]
            self._serial += 1
            heapq.heappush(self._due, (enrichment.due_at, self._serial, enrichment))

    def _luck(self, enrichment: _Enrichment, human: Human) -> Dice:
        return Dice(
            b"lance%d" % self.world.config.seed,
            human.number,
            f"{enrichment.field}@{enrichment.epoch}#{enrichment.attempt}",
        )

    def _delay(self, enrichment: _Enrichment) -> float:
        """Records of one batch finish each in its own time."""
        shortest, longest = self.world.config.lance_delay_s
        human = enrichment.human
        share = 0.0 if human is None else self._luck(enrichment, human).throw(2) / SPAN
        return shortest + (longest - shortest) * share

    def _finish(self, enrichment: _Enrichment) -> None:
        world = self.world
        world.reserved[self.name] -= world.prices[f"lance.{enrichment.field}"]
        enrichment.updated_at = enrichment.due_at
        human = enrichment.human
        if human is None:
            enrichment.status, enrichment.has_data = "finished", False
            return
        luck = self._luck(enrichment, human)
        if luck.chance(0, world.rates["lance.broken"]):
            enrichment.status = luck.pick(1, _BROKEN)
            return
        view = world.view(human, self.name, bool(human.facts.last))
        enrichment.epoch = world.answers.epoch
        enrichment.status = "finished"
        enrichment.has_data = self._has(view, enrichment.field)
        if enrichment.has_data:
            world.charge(
                human.number,
                self.name,
                enrichment.field,
                enrichment.call,
                identifiers=fingerprint(Asked(lance_id=enrichment.entity)),
            )
            world.meter.save()

    def _has(self, view: View, field: str) -> bool:
        rates = self.world.rates
        if field == "emails":
            return view.knows(0, rates["lance.emails"])
        return bool(view.truth.mobile) and view.knows(1, rates["lance.phones"], mobile_share(rates))

    def _value(self, view: View, field: str) -> dict[str, str]:
        if field == "emails":
            address, quality = view.email(self.world.rates["lance.verified_share"])
            status = "verified" if quality == "verified" else "unverified"
            return {"email": address, "status": status}
        return {"number": view.truth.mobile, "type": "mobile"}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _error(status: int, code: str, message: str) -> Reply:
    return Reply({"error": {"code": code, "message": message}}, status)
