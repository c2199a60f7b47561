"""No address that a reply or a configuration carries leads a request astray.

That redirects, proxies of the environment and names inside the own network lead nowhere either is
tested beside the HTTP client.
"""

import json
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.providers.protocol import HttpResponse
from enrich_pipeline.settings import load
from enrich_pipeline.waterfall.reachability import Reachability

from ..conformance.cases import CASES
from ..conformance.suite import Case, calls

ASTRAY = (
    "http://169.254.169.254/latest/meta-data",
    "//169.254.169.254/",
    "../../admin",
    "x?url=http://127.0.0.1",
    "x#y",
    "x/../y",
    "%2e%2e%2f",
    "@evil.example",
    "\\\\evil.example\\x",
    "a b",
    "a\r\nHost: evil.example",
    "file:///etc/passwd",
    "\uff0e\uff0e/",
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cls.name)
@pytest.mark.parametrize("astray", ASTRAY)
def test_an_id_from_a_reply_never_becomes_another_path(case: Case, astray: str) -> None:
    for call in calls(case, size=min(2, case.cls.limits.maximum)):
        body = json.loads(json.dumps(case.reply(call), default=str))
        if not isinstance(body, dict):
            continue
        for name in ("enrichment_id", "request_id", "id", "job_id", "url", "webhook_url"):
            body[name] = astray
        body["phone_enrichment"] = {"request_id": astray, "status": "pending"}
        reply = case.provider.read(call, HttpResponse(200, {}, json.dumps(body).encode()))
        assert reply.job_id is None


@pytest.mark.parametrize("setting", ["ENRICH_WEBHOOK_PUBLIC_URL", "ENRICH_PROSPEO_BASE_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://[::ffff:10.0.0.1]",
        "https://[fe80::1]",
        "https://user:secret@hooks.example.com",
        "https://hooks.example.com/?next=http://10.0.0.1",
        "https://",
        "//hooks.example.com",
    ],
)
def test_an_address_in_the_configuration_is_https_and_public_or_this_machine(
    setting: str, url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=setting) as refusal:
        load({setting: url}, tmp_path)
    assert "secret" not in str(refusal.value)


def test_the_proof_that_the_receiver_is_reached_follows_no_redirect_and_no_proxy(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"location": "http://169.254.169.254/"})

    send = httpx.Client.__init__

    def with_transport(self: httpx.Client, **options: object) -> None:
        assert options["trust_env"] is False
        send(self, **{**options, "transport": httpx.MockTransport(redirect)})  # type: ignore[arg-type]

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setattr(httpx.Client, "__init__", with_transport)
    monkeypatch.setattr("enrich_pipeline.waterfall.reachability._SECONDS", 0.1)
    assert not Reachability(engine, "https://hooks.example.com").is_proven
    assert [url.startswith("https://hooks.example.com/webhooks/probe/") for url in asked] == [True]
