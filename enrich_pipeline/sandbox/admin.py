"""The pages below /_sandbox: reading the meter, scripting faults, moving the epoch.

For tests and rehearsals. No provider has anything like it, and the pipeline never calls it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .config import PROVIDERS
from .faults import parse_fault
from .serving import Provider
from .world import World, as_json_bytes

Page = Callable[[Request], Awaitable[Any]]


class BadRequest(Exception):
    """An admin request that makes no sense; the message says why."""


class Admin:
    def __init__(self, world: World, providers: list[Provider]) -> None:
        self._world = world
        self._providers = providers

    def routes(self) -> list[Route]:
        pages: list[tuple[str, str, Page]] = [
            ("GET", "health", self._health),
            ("GET", "meter", self._meter),
            ("GET", "double-charges", self._double_charges),
            ("GET", "violations", self._violations),
            ("GET", "requests", self._requests),
            ("GET", "webhooks", self._webhooks),
            ("GET", "faults", self._faults),
            ("POST", "faults", self._add_faults),
            ("DELETE", "faults", self._clear_faults),
            ("POST", "epoch", self._epoch),
            ("POST", "latency", self._latency),
            ("POST", "balance", self._balance),
            ("POST", "account", self._account),
            ("POST", "reset", self._reset),
        ]
        return [
            Route(f"/_sandbox/{path}", _page(page), methods=[method])
            for method, path, page in pages
        ]

    def _settle(self) -> None:
        for provider in self._providers:
            provider.settle()

    async def _health(self, request: Request) -> Any:
        world = self._world
        return {
            "status": "ok",
            "epoch": world.answers.epoch,
            "humans": len(world.directory),
            "pending_deliveries": world.courier.waiting,
        }

    async def _meter(self, request: Request) -> Any:
        """Totals per provider; with ?detail=1 (and ?provider=) also every charge."""
        self._settle()
        world = self._world
        answer: dict[str, Any] = {}
        for name in PROVIDERS:
            log = world.requests[name]
            answer[name] = {
                "charged_micro": world.meter.charged.get(name, 0),
                "calls": log.billable,
                "requests": len(log.endpoints),
                "records": log.billable_records,
                "balance_micro": world.balance(name),
                "other_persons": world.other_persons[name],
            }
        if request.query_params.get("detail") not in (None, "", "0"):
            only = request.query_params.get("provider")
            answer["charges"] = [
                {
                    **asdict(charge),
                    "human": world.label(charge.human),
                    "identifiers": f"{charge.identifiers:024x}",
                }
                for charge in world.meter
                if only is None or charge.provider == only
            ]
        return answer

    async def _double_charges(self, request: Request) -> Any:
        self._settle()
        return self._world.meter.double_charges(self._world.label)

    async def _violations(self, request: Request) -> Any:
        world = self._world
        return {
            "total": sum(world.violation_counts.values()),
            "counts": world.violation_counts,
            "rows": [asdict(violation) for violation in world.violations],
        }

    async def _requests(self, request: Request) -> Any:
        return {name: log.as_json() for name, log in self._world.requests.items()}

    async def _webhooks(self, request: Request) -> Any:
        courier = self._world.courier
        return {**asdict(courier.counts), "waiting": courier.waiting}

    async def _faults(self, request: Request) -> Any:
        return [fault.as_json() for fault in self._world.faults.script]

    async def _add_faults(self, request: Request) -> Any:
        """One fault, or a list of them."""
        body = await request.json()
        try:
            faults = [parse_fault(v) for v in (body if isinstance(body, list) else [body])]
        except (TypeError, ValueError, AttributeError) as error:
            raise BadRequest(str(error)) from error
        for fault in faults:
            self._world.faults.add(fault)
        return {"added": len(faults)}

    async def _clear_faults(self, request: Request) -> Any:
        self._world.faults.reset()
        return {}

    async def _epoch(self, request: Request) -> Any:
        body = await _object(request)
        answers = self._world.answers
        epoch = body.get("epoch", answers.epoch + body.get("advance", 0))
        if not isinstance(epoch, int) or epoch < 0:
            raise BadRequest("epoch must be a whole number from 0")
        answers.epoch = epoch
        return {"epoch": epoch}

    async def _latency(self, request: Request) -> Any:
        body = await _object(request)
        latency = (float(body.get("ms", 0)), float(body.get("jitter_ms", 0)))
        for name in _named(body):
            self._world.latency[name] = latency
        return {}

    async def _balance(self, request: Request) -> Any:
        """Sets what is left now, in micro-units."""
        body = await _object(request)
        world = self._world
        if not isinstance(body.get("micro"), int):
            raise BadRequest("micro must be a whole number of micro-units")
        for name in _named(body):
            world.starting[name] = body["micro"] + world.meter.charged.get(name, 0)
        return {}

    async def _account(self, request: Request) -> Any:
        body = await _object(request)
        self._world.pronto_consent = bool(body.get("pronto_consent", True))
        return {}

    async def _reset(self, request: Request) -> Any:
        await self._world.reset()
        for provider in self._providers:
            provider.reset()
        await asyncio.sleep(0)
        return {}


def _page(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        try:
            body, status = await page(request), 200
        except BadRequest as error:
            body, status = {"error": str(error)}, 400
        return Response(as_json_bytes(body), status, media_type="application/json")

    return serve


async def _object(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise BadRequest("the body must be JSON") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be an object")
    return body


def _named(body: dict[str, Any]) -> tuple[str, ...]:
    name = body.get("provider")
    if name is None:
        return PROVIDERS
    if name not in PROVIDERS:
        raise BadRequest(f"unknown provider {name!r}")
    return (name,)
