"""The sandbox as a program: its command line, its keys, its admin pages."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from enrich_pipeline.sandbox import RateLimit, SandboxConfig
from enrich_pipeline.sandbox.__main__ import config_from, main

from . import people
from .conftest import Client


def test_the_command_line_becomes_a_configuration() -> None:
    config = config_from(
        [
            "--port",
            "9",
            "--seed",
            "3",
            "--limit",
            "prospeo=30/1800/record",
            "--limit",
            "apollo=-/20",
            "--balance",
            "lance=1.5",
            "--rate",
            "prospeo.match=0.9",
            "--price",
            "apollo.match=1500000",
            "--pronto-delay",
            "0-2",
            "--lance-delay",
            "0.5",
            "--api-key",
            "pronto=secret",
            "--no-pronto-consent",
        ]
    )
    assert (config.port, config.seed, config.pronto_consent) == (9, 3, False)
    assert config.limits["prospeo"] == RateLimit(30, 1800, per_record=True)
    assert config.limits["apollo"] == RateLimit(None, 20)
    assert config.balances == {"lance": 1_500_000}
    assert config.all_rates["prospeo.match"] == 0.9
    assert config.all_prices["apollo.match"] == 1_500_000
    assert config.pronto_delay_s == (0.0, 2.0)
    assert config.lance_delay_s == (0.5, 0.5)
    assert config_from([]) == SandboxConfig()
    assert config.api_keys == {"pronto": "secret"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "prospeo.luck=1"],
        ["--price", "prospeo"],
        ["--balance", "clearbit=1"],
        ["--limit", "prospeo=1/1/call"],
        ["--directory-contacts", "contacts.csv"],
        ["--directory", "missing.csv"],
    ],
)
def test_wrong_arguments_end_with_one_clear_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_directory_without_contact_ids_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "directory.csv"
    path.write_text("name;email\na;b\n", encoding="utf-8")
    assert main(["--directory", str(path)]) == 2
    assert "contact_id" in capsys.readouterr().err


@pytest.mark.parametrize("provider", ["agntdata", "pronto", "prospeo", "lance", "apollo"])
def test_paths_that_no_document_names_are_counted(certain: Client, provider: str) -> None:
    assert certain.ask(provider, "/people/search", {}).status_code == 404
    assert certain.rules_broken() == {f"{provider}.unknown_path": 1}


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("agntdata", "/credits"),
        ("pronto", "/credits"),
        ("prospeo", "/account-information"),
        ("lance", "/operations/credits/balance"),
        ("apollo", "/webhook_result/1"),
    ],
)
def test_only_the_configured_key_is_accepted(
    start: Callable[..., Client], provider: str, path: str
) -> None:
    client = start("--api-key", f"{provider}=another-key")
    assert client.ask(provider, path).status_code == 401
    assert client.ask(provider, path, headers={}).status_code == 401
    assert client.rules_broken() == {f"{provider}.unauthorized": 2}


def test_the_request_log_tells_what_was_sent(certain: Client) -> None:
    certain.ask("prospeo", "/bulk-enrich-person", {"data": [people.prospeo(n) for n in range(7)]})
    certain.ask("prospeo", "/account-information")
    log = certain.sandbox.requests()["prospeo"]
    assert log["by_endpoint"] == {"bulk-enrich-person": 1, "account-information": 1}
    assert (log["calls"], log["calls_records"], log["records"]) == (1, 7, [7, 0])
    assert log["status"] == [200, 200]
    assert log["started_at"] == sorted(log["started_at"])


def test_a_reset_forgets_everything(certain: Client) -> None:
    items = {"data": [people.prospeo(1)]}
    certain.sandbox.faults({"provider": "prospeo", "kind": "429", "times": None})
    certain.ask("prospeo", "/bulk-enrich-person", items)
    certain.sandbox.epoch(4)
    certain.sandbox.reset()
    assert certain.ask("prospeo", "/bulk-enrich-person", items).json()["total_cost"] == 1
    assert certain.sandbox.health()["epoch"] == 0
    assert certain.sandbox.requests()["prospeo"]["count"] == 1


def test_senseless_admin_requests_are_refused(certain: Client) -> None:
    for page, body in (
        ("epoch", {"epoch": -1}),
        ("balance", {"provider": "prospeo"}),
        ("latency", {"provider": "clearbit", "ms": 1}),
        ("faults", {"kind": "429", "colour": "red"}),
    ):
        with pytest.raises(httpx.HTTPStatusError):
            certain.sandbox.post(page, body)


def test_latency_is_added_to_every_reply(certain: Client) -> None:
    certain.sandbox.latency(150, provider="prospeo")
    certain.ask("prospeo", "/account-information")
    certain.ask("agntdata", "/credits")
    log = certain.sandbox.requests()
    assert log["prospeo"]["seconds"][0] > 0.14
    assert log["agntdata"]["seconds"][0] < 0.14
