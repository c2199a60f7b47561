"""The receiver described in OpenAPI, and schemathesis exploring it by that description.

The description is the tests': providers are told addresses, not an API.
"""

from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

_OK = {
    "description": "Stored, known already, or from a stranger: all alike",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"status": {"const": "ok"}},
                "required": ["status"],
                "additionalProperties": False,
            }
        }
    },
}
_REFUSED = {
    status: {"description": reason}
    for status, reason in (
        ("400", "Not HTTP"),
        ("404", "No such provider or path"),
        ("405", "Not POST"),
        ("408", "The body did not come in time"),
        ("413", "More than 64 KiB"),
    )
}
_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def _parameter(name: str, **schema: object) -> dict[str, object]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **schema}}


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Webhook receiver", "version": "1"},
    "paths": {
        "/health": {"get": {"responses": {"200": _OK, **_REFUSED}}},
        "/webhooks/probe/{nonce}": {
            method: {
                "parameters": [_parameter("nonce", minLength=1, maxLength=120)],
                "responses": {"200": _OK, **_REFUSED},
            }
            for method in ("get", "post")
        },
        "/webhooks/{provider}/{token}": {
            "post": {
                "parameters": [
                    _parameter("provider", enum=["apollo", "pronto", "prospeo"]),
                    _parameter("token", minLength=1, maxLength=220),
                ],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {}},
                        "text/plain": {"schema": {"type": "string"}},
                        "application/octet-stream": {"schema": {"type": "string"}},
                    }
                },
                "responses": {"200": _OK, **_REFUSED},
            }
        },
    },
}


def explore(url: str, number: int, examples: int) -> tuple[int, list[str]]:
    """Sends up to `examples` requests per operation that fit the description, and as many that do
    not; how many were sent, and what was broken by which kind of request.
    """
    schema = schemathesis.openapi.from_dict(OPENAPI)
    schema.config.update(base_url=url)
    broken: list[str] = []
    made = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in GenerationMode:
            asked = _Asked(f"{operation.label} ({mode.value})")
            ask = settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(case=operation.as_strategy(generation_mode=mode))(asked.ask))
            # What takes no parameter cannot be asked wrongly.
            with suppress(Unsatisfiable):
                seed(number)(ask)()
            made += asked.made
            broken += sorted(asked.broken)
    return made, broken


class _Asked:
    """What became of the requests of one kind."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.made = 0
        self.broken: set[str] = set()

    def ask(self, case: Any) -> None:
        self.made += 1
        try:
            case.call_and_validate(checks=_CHECKS)
        except FailureGroup as failures:
            self.broken |= {f"{self._label}: {one.title}" for one in failures.exceptions}
        except (Failure, OSError) as failure:
            self.broken.add(f"{self._label}: {type(failure).__name__}")
