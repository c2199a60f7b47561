"""Shared parts of the adapter tests: calls, responses, and mutations of valid replies."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from enrich_pipeline.providers.protocol import (
    Answer,
    Call,
    Datapoint,
    HttpResponse,
    Item,
    PersonInputs,
    Reply,
)


def person(number: int = 1, *, consent: bool = False, **datapoints: str) -> PersonInputs:
    known = {Datapoint(name): value for name, value in datapoints.items()}
    return PersonInputs(number, known or {Datapoint.LINKEDIN: f"person-{number}"}, consent)


def item(key: str, *products: str, inputs: PersonInputs | None = None) -> Item:
    return Item(key, inputs or person(), frozenset(products))


def call(*items: Item, group: str = "", webhook: bool = False, job_id: str | None = None) -> Call:
    url = "https://hooks.example.com/webhooks/x/token" if webhook else None
    return Call(group, items, webhook_url=url, job_id=job_id)


def response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, headers or {}, raw)


def answers(reply: Reply) -> dict[tuple[str, str], Answer]:
    """The answers by (key, product); a line that is answered twice fails the test."""
    found = {(answer.key, answer.product): answer for answer in reply.answers}
    assert len(found) == len(reply.answers)
    return found


def values(answer: Answer) -> dict[str, tuple[str, str]]:
    """Attribute -> (value, status) of the first value of each attribute."""
    found: dict[str, tuple[str, str]] = {}
    for value in answer.values:
        found.setdefault(value.attribute.value, (value.value, value.status.value))
    return found


JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just("\ud800"),
    st.just("x" * 2_000),
    st.just([]),
    st.just({}),
    st.just([None, 1, "a", {}]),
)


@st.composite
def mutated_json(draw: st.DrawFn, valid: Any) -> bytes:
    """A valid reply with up to three places replaced, removed or doubled, perhaps cut off."""
    body = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        body = _mutate(draw, body)
    raw = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        raw = raw[: draw(st.integers(0, len(raw)))]
    return raw


def _mutate(draw: st.DrawFn, body: Any) -> Any:
    if isinstance(body, dict) and body and draw(st.integers(0, 7)):
        key = draw(st.sampled_from(sorted(body)))
        if draw(st.integers(0, 9)) == 0:
            return {name: value for name, value in body.items() if name != key}
        return {**body, key: _mutate(draw, body[key])}
    if isinstance(body, list) and body and draw(st.integers(0, 7)):
        index = draw(st.integers(0, len(body) - 1))
        if draw(st.integers(0, 4)) == 0:
            return [*body, body[index]]
        return [_mutate(draw, one) if i == index else one for i, one in enumerate(body)]
    return draw(JUNK)
