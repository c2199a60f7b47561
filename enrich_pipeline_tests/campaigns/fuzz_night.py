"""A whole night on distorted replies, and distorted deliveries into its inbox."""

import traceback
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

from enrich_pipeline.providers.http import ProviderClient
from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse
from enrich_pipeline.store import inbox
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.webhooks.app import MAX_BODY_BYTES

from ..support.lab import Lab, contacts
from ..support.sandbox import PROVIDERS
from . import checks, mutations
from .figures import Figures
from .ground import Ground

AT_ONCE = 2_000


class _Distorting(ProviderClient):
    """Sends for a client, and returns most of what comes back distorted."""

    def __init__(self, inner: ProviderClient, seed: str) -> None:
        self._inner = inner
        self._seed = seed

    def send(
        self, request: HttpRequest, *, body: bytes | None = None, **options: Any
    ) -> HttpResponse:
        response = self._inner.send(request, body=body, **options)
        random = Random(f"{self._seed}:{request.path}:{body!r}")
        if not response.body or random.random() < 0.2:
            return response
        return replace(response, body=mutations.body(random, response.body.decode()))

    def close(self) -> None:
        self._inner.close()


def night(
    ground: Ground, seed: int, persons: int, turns: int, bodies: int, figures: Figures
) -> None:
    """A night of which nearly every reply is distorted, then as many distorted deliveries.

    What it spends is nonsense; the ledger must agree with itself all the same, and nothing may
    raise: a delivery on which the sweep fails would stop every later one.
    """
    own = {
        "budget": {"night_usd": 10_000_000, "person_usd": 10_000_000},
        "providers": {
            name: {"batch_size": 4, "await_seconds": 0.3, "concurrency": 2} for name in PROVIDERS
        },
    }
    with ground.lab(own, {}) as lab:
        lab.load(contacts(range(persons), personal_email_consent="true"))
        lab.plan()
        try:
            for turn in range(turns):
                _distorted_drain(lab, f"{seed}:{turn}")
                _let_time_pass(lab)
            stored = lab.one("select count(*) from enrichment.replies")
            figures.add("replies through the engine", stored)
            valid = _delivered(lab)
            for first in range(0, bodies if valid else 0, AT_ONCE):
                numbers = range(first, min(first + AT_ONCE, bodies))
                with lab.engine.begin() as conn:
                    inbox.put_all(conn, [_distorted(seed, number, valid) for number in numbers])
                figures.add("deliveries through the engine", len(numbers))
                lab.sweep()
        except Exception as error:  # noqa: BLE001  (what this campaign looks for)
            figures.blame("night", [f"uncaught {type(error).__name__} at {_place(error)}"])
            return
        figures.blame("night", checks.ledger(lab.engine, overage=True))
        figures.blame("night", checks.unused_replies(lab.engine))


def _distorted_drain(lab: Lab, seed: str) -> None:
    with lab.waterfall() as waterfall:
        clients = cast("dict[str, ProviderClient]", waterfall._ctx.clients)
        for name in clients:
            clients[name] = _Distorting(clients[name], seed)
        waterfall.sweep()
        waterfall.reuse(Partition(lab.today, 0))
        for provider in lab.chain:
            lab.sql("delete from enrichment.provider_states")
            waterfall.attempt(Partition(lab.today, 0), provider)
        lab.sandbox.wait_for_deliveries()
        waterfall.sweep()


def _let_time_pass(lab: Lab) -> None:
    """Deadlines and horizons are over: what is in doubt is written off and moves on."""
    lab.sql("""
        update enrichment.calls set deadline_at = least(deadline_at, clock_timestamp()),
            write_off_at = least(write_off_at, clock_timestamp()),
            next_poll_at = least(next_poll_at, clock_timestamp())
        where closed_at is null
    """)


def _delivered(lab: Lab) -> list[inbox.Arrival]:
    """What providers delivered and was applied."""
    return [
        inbox.Arrival(provider, bytes(token), bytes(body))
        for provider, token, body in lab.sql(
            "select i.provider, i.token_hash, i.body from enrichment.inbox as i "
            "join enrichment.calls as c using (provider, token_hash) "
            "where i.state in ('applied', 'ignored') order by i.delivery_id limit 500"
        )
    ]


def _distorted(seed: int, number: int, valid: list[inbox.Arrival]) -> inbox.Arrival:
    random = Random(f"{seed}:inbox:{number}")
    one = random.choice(valid)
    return replace(one, body=mutations.body(random, one.body.decode())[:MAX_BODY_BYTES])


def _place(error: BaseException) -> str:
    """File and line of our innermost frame: messages may hold values."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "enrich_pipeline" in frame.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
