"""What happens around every provider request: number, latency, faults, key, limit, log.

The order is: connection faults, key, rate limit, refusing faults, the provider's own handler (which
charges), faults that spoil the reply. The providers' rules and replies are in their own modules.
"""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .faults import AFTER, BEFORE, Fault, Occasion
from .humans import Human
from .world import World, as_json_bytes

TRANSPORT = "sandbox.transport"


@dataclass(slots=True)
class Reply:
    """What a provider answers. `body` is JSON, or text where `content_type` says so."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def content(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else as_json_bytes(self.body)


class RuleBroken(Exception):
    """The request breaks a documented rule: refused with the reply and counted."""

    def __init__(self, rule: str, reply: Reply) -> None:
        super().__init__(rule)
        self.rule = rule
        self.reply = reply


class Refused(Exception):
    """The provider refuses for a reason that is no fault of the caller's."""

    def __init__(self, outcome: str, reply: Reply) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.reply = reply


@dataclass(slots=True)
class Call:
    """One request to a provider while it is served."""

    number: int
    endpoint: str
    path: Mapping[str, str]
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    content: bytes
    body: Any = None
    records: Sequence[Any] = ()
    charged: list[Human] = field(default_factory=list)


Handler = Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path below the provider's base URL. `is_billable`: calls here may cost credits."""

    method: str
    path: str
    handler: Handler
    is_billable: bool = False


class Provider(ABC):
    """One simulated provider: its rules, its words for refusals, its replies."""

    name: ClassVar[str]

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def endpoints(self) -> list[Endpoint]: ...

    @abstractmethod
    def key_of(self, headers: Mapping[str, str]) -> str:
        """The API key of a request, "" if it has none in the documented place."""

    @abstractmethod
    def unauthorized(self) -> Reply: ...

    @abstractmethod
    def rate_limited(self, seconds: float) -> Reply: ...

    @abstractmethod
    def insufficient(self) -> Reply: ...

    @abstractmethod
    def invalid(self, message: str) -> Reply: ...

    @abstractmethod
    def failure(self, status: int) -> Reply: ...

    @abstractmethod
    def records_of(self, body: Any) -> Any:
        """The list of records of a billable request body, however wrong it may be."""

    @abstractmethod
    def human_of(self, record: Any) -> Human | None: ...

    @abstractmethod
    def items_of(self, body: Any) -> list[Any] | None:
        """The reply's list of items that a fault may reorder or shorten, None if it has none."""

    def reset(self) -> None:  # noqa: B027
        """Forgets what the provider remembers of earlier calls."""

    def settle(self) -> None:  # noqa: B027
        """Finishes what is due, for providers that finish without being asked."""

    def rename_item(self, item: Any) -> None:
        """Makes the identifier of one reply item unknown."""
        for key in ("identifier", "entityId", "id"):
            if isinstance(item, dict) and key in item:
                item[key] = "unknown-to-the-caller"
                return

    def add_cost(self, body: Any, micro: int) -> None:  # noqa: B027
        """Reports so much more cost, where replies report cost at all."""

    def standing_headers(self) -> dict[str, str]:
        """Headers that every authorized reply carries."""
        return {}

    def broken(self, rule: str, message: str) -> RuleBroken:
        return RuleBroken(rule, self.invalid(message))

    def note(self, call: Call, rule: str) -> None:
        """Counts a broken rule that the documents answer with something else than a refusal."""
        self.world.violate(self.name, call.endpoint, call.number, rule)

    def is_authorized(self, headers: Mapping[str, str]) -> bool:
        key = self.key_of(headers)
        wanted = self.world.config.api_keys.get(self.name)
        if wanted is not None:
            return key == wanted
        return bool(key) and not key.startswith("invalid")

    def json_object(self, call: Call, allowed: frozenset[str]) -> dict[str, Any]:
        """The request body, which must be a JSON object of documented fields."""
        content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise self.broken("content_type", "Content-Type must be application/json")
        if not isinstance(call.body, dict):
            raise self.broken("body_not_object", "The body must be a JSON object")
        self.only_known(call.body, allowed)
        return call.body

    def only_known(self, value: Mapping[str, Any], allowed: frozenset[str]) -> None:
        if not allowed.issuperset(value):
            raise self.broken("unknown_field", "The request has fields that are not documented")

    def only_strings(self, value: Mapping[str, Any], allowed: frozenset[str]) -> None:
        """All fields documented, all of them strings."""
        self.only_known(value, allowed)
        for inner in value.values():
            if not isinstance(inner, str):
                raise self.broken("not_a_string", "A field has the wrong type")


def routes(provider: Provider) -> list[Route]:
    """The provider's documented paths; every other one below its base URL is refused."""
    documented = [
        Route(f"/{provider.name}{e.path}", _serving(provider, e), methods=[e.method])
        for e in provider.endpoints()
    ]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        *documented,
        Route(f"/{provider.name}/{{rest:path}}", _refusing(provider), methods=methods),
    ]


def _refusing(provider: Provider) -> Callable[[Request], Any]:
    async def refuse(request: Request) -> Response:
        world = provider.world
        world.violate(provider.name, "", world.next_call(), "unknown_path")
        return _response(Reply({"error": "Not found"}, 404))

    return refuse


def _serving(provider: Provider, endpoint: Endpoint) -> Callable[[Request], Any]:
    name = endpoint.path.lstrip("/")
    world = provider.world

    async def serve(request: Request) -> Response:
        started, started_at, resets = time.monotonic(), time.time(), world.resets
        call = Call(
            number=world.next_call(),
            endpoint=name,
            path=request.path_params,
            query=request.query_params.multi_items(),
            headers=request.headers,
            content=await request.body(),
        )
        _read(provider, call)
        occasion = Occasion(
            provider.name, name, endpoint.is_billable, call.records, _numbers(provider, call)
        )
        await world.pause(provider.name)
        if resets != world.resets:
            # It came before the reset, and is charged for neither before nor after it.
            return Dropped()
        response, outcome = await _answer(provider, endpoint, call, occasion)
        world.meter.save()
        if resets != world.resets:
            return response
        log = world.requests[provider.name]
        log.endpoints.append(name)
        log.outcomes.append(outcome)
        log.records.append(len(call.records))
        log.statuses.append(response.status_code)
        log.calls.append(call.number)
        log.started_at.append(started_at)
        log.seconds.append(time.monotonic() - started)
        if endpoint.is_billable:
            log.billable += 1
            log.billable_records += len(call.records)
        return response

    return serve


async def _answer(
    provider: Provider, endpoint: Endpoint, call: Call, occasion: Occasion
) -> tuple[Response, str]:
    world = provider.world
    provider.settle()
    if not provider.is_authorized(call.headers):
        provider.note(call, "unauthorized")
        return _response(provider.unauthorized()), "unauthorized"
    wait = world.limits[provider.name].admit(time.monotonic(), len(call.records))
    if wait:
        reply = provider.rate_limited(wait)
        reply.headers = {**provider.standing_headers(), **reply.headers}
        return _response(reply), "rate_limited"
    fault = world.faults.strike(occasion, BEFORE)
    if fault is not None:
        if fault.kind == "drop_before":
            return Dropped(), "fault:drop_before"
        reply = _refusal(provider, fault)
        reply.headers = {**provider.standing_headers(), **reply.headers}
        return _response(reply), f"fault:{fault.kind}"
    outcome = "ok"
    try:
        reply = endpoint.handler(call)
    except RuleBroken as error:
        provider.note(call, error.rule)
        reply, outcome = error.reply, f"refused:{error.rule}"
    except Refused as error:
        reply, outcome = error.reply, error.outcome
    reply.headers = {**provider.standing_headers(), **reply.headers}
    if outcome == "ok":
        fault = world.faults.strike(occasion, AFTER)
        if fault is not None:
            return await _spoiled(provider, call, reply, fault), f"fault:{fault.kind}"
    return _response(reply), outcome


def _read(provider: Provider, call: Call) -> None:
    if call.content:
        try:
            call.body = json.loads(call.content)
        except (ValueError, RecursionError):
            call.body = None
    records = provider.records_of(call.body) if isinstance(call.body, dict) else None
    call.records = records if isinstance(records, list) else ()


def _numbers(provider: Provider, call: Call) -> Callable[[], Sequence[int]]:
    def numbers() -> list[int]:
        humans = [provider.human_of(r) for r in call.records if isinstance(r, dict | str)]
        return [human.number for human in humans if human is not None]

    return numbers


def _refusal(provider: Provider, fault: Fault) -> Reply:
    if fault.kind == "429":
        return provider.rate_limited(fault.seconds)
    if fault.kind == "insufficient":
        return provider.insufficient()
    if fault.kind == "poison":
        return provider.invalid("The request could not be processed")
    return _with_status(provider, fault)


def _with_status(provider: Provider, fault: Fault) -> Reply:
    status = fault.status or 500
    if fault.body is not None:
        return Reply(fault.body, status)
    return provider.failure(status)


async def _spoiled(provider: Provider, call: Call, reply: Reply, fault: Fault) -> Response:
    world = provider.world
    kind = fault.kind
    if kind == "charge_then_drop":
        return Dropped()
    if kind == "charge_then_status":
        return _response(_with_status(provider, fault))
    if kind == "truncate":
        content = reply.content()
        return _response(reply, content[: len(content) // 2])
    if kind == "cut_body":
        return CutShort(reply.content(), reply.status)
    if kind == "html":
        page = "<html><head><title>Service</title></head><body><h1>Hello</h1></body></html>"
        return _response(Reply(page, fault.status or reply.status, {}, "text/html"))
    if kind == "wrong_content_type":
        reply.content_type = "text/plain; charset=utf-8"
    elif kind == "slow":
        await asyncio.sleep(fault.seconds)
    elif kind == "overcharge":
        if call.charged:
            amount = fault.amount_micro
            world.charge(
                call.charged[0].number, provider.name, "overcharge", call.number, amount=amount
            )
            provider.add_cost(reply.body, amount)
    else:
        _disturb_items(provider, reply, kind)
    return _response(reply)


def _disturb_items(provider: Provider, reply: Reply, kind: str) -> None:
    items = provider.items_of(reply.body)
    if not items:
        return
    if kind == "reorder":
        items.reverse()
    elif kind == "missing_identifier":
        items.pop()
    else:
        provider.rename_item(next((item for item in items if item is not None), None))


def _response(reply: Reply, content: bytes | None = None) -> Response:
    return Response(
        reply.content() if content is None else content,
        status_code=reply.status,
        headers=reply.headers,
        media_type=reply.content_type,
    )


class Dropped(Response):
    """No reply at all: the connection is closed after the request was read."""

    def __init__(self) -> None:
        super().__init__()
        self.status_code = 0  # For the request log: nothing was answered.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get(TRANSPORT)
        if transport is None:
            raise ConnectionError("the connection can only be dropped under a real server")
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


class CutShort(Response):
    """The headers promise a whole body, then the connection closes in the middle of it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope.get(TRANSPORT)
        if transport is None:
            raise ConnectionError("the connection can only be cut under a real server")
        body = bytes(self.body)
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        half = body[: len(body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass
