"""python -m enrich_pipeline.sandbox: the command line of the sandbox."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .app import run
from .config import MICRO, PROVIDERS, RateLimit, SandboxConfig


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m enrich_pipeline.sandbox",
        description="The five simulated providers on one port, with a charge meter.",
    )
    add = command.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8799)
    add("--directory", type=Path, help="contacts CSV, with or without a human_id column")
    add("--directory-contacts", type=Path, help="contacts CSV, together with the next")
    add("--directory-persons", type=Path, help="CSV with contact_id and person_id")
    add("--seed", type=int, default=1)
    add("--epoch", type=int, default=0)
    add("--latency-ms", type=float, default=0.0)
    add("--latency-jitter-ms", type=float, default=0.0)
    add("--state", type=Path, help="SQLite file that keeps the charges over a restart")
    add("--rate", action="append", default=[], metavar="NAME=SHARE", help="e.g. prospeo.match=0.9")
    add("--price", action="append", default=[], metavar="NAME=MICRO")
    add("--balance", action="append", default=[], metavar="PROVIDER=CREDITS")
    add("--api-key", action="append", default=[], metavar="PROVIDER=KEY")
    add(
        "--limit", action="append", default=[], metavar="PROVIDER=PER_SECOND/PER_MINUTE[/record]",
        help="e.g. prospeo=30/1800; - for no limit",
    )  # fmt: skip
    add("--require-https", action="store_true", help="refuse http:// webhooks, as vendors do")
    add("--webhook-host", action="append", default=[], help="a host reachable by plain http")
    add("--webhook-attempts", type=int, default=5)
    add("--webhook-backoff", type=float, default=0.25, metavar="SECONDS", help="doubles each time")
    add("--pronto-delay", default="0.3-1.5", metavar="SECONDS-SECONDS")
    add("--apollo-delay", default="0.3-1.5", metavar="SECONDS-SECONDS")
    add("--lance-delay", default="0.6-1.4", metavar="SECONDS-SECONDS")
    add("--no-pronto-consent", action="store_true")
    return command


def config_from(arguments: Sequence[str]) -> SandboxConfig:
    """The configuration of a command line.

    Raises:
        ValueError: a value cannot be read, or names something unknown.
    """
    given = parser().parse_args(arguments)
    return SandboxConfig(
        host=given.host,
        port=given.port,
        directory=given.directory,
        directory_contacts=given.directory_contacts,
        directory_persons=given.directory_persons,
        seed=given.seed,
        epoch=given.epoch,
        latency_ms=given.latency_ms,
        latency_jitter_ms=given.latency_jitter_ms,
        state=given.state,
        rates={name: float(value) for name, value in map(_pair, given.rate)},
        prices={name: int(value) for name, value in map(_pair, given.price)},
        balances={name: round(float(v) * MICRO) for name, v in map(_pair, given.balance)},
        api_keys=dict(map(_pair, given.api_key)),
        limits={name: _limit(value) for name, value in map(_pair, given.limit)},
        require_https=given.require_https,
        webhook_hosts=tuple(given.webhook_host),
        webhook_attempts=given.webhook_attempts,
        webhook_backoff_s=given.webhook_backoff,
        pronto_delay_s=_range(given.pronto_delay),
        apollo_delay_s=_range(given.apollo_delay),
        lance_delay_s=_range(given.lance_delay),
        pronto_consent=not given.no_pronto_consent,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        config = config_from(sys.argv[1:] if arguments is None else arguments)
        base = f"http://{config.host}:{config.port}"
        for name in PROVIDERS:
            sys.stdout.write(f"{name:10} {base}/{name}\n")
        sys.stdout.flush()
        run(config)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} should read NAME=VALUE")
    return name, value


def _range(text: str) -> tuple[float, float]:
    shortest, separator, longest = text.partition("-")
    return float(shortest), float(longest if separator else shortest)


def _limit(text: str) -> RateLimit:
    second, _, rest = text.partition("/")
    minute, _, unit = rest.partition("/")
    if unit not in ("", "record"):
        raise ValueError(f"{text!r} should read PER_SECOND/PER_MINUTE[/record]")
    return RateLimit(_rate(second), _rate(minute), unit == "record")


def _rate(text: str) -> float | None:
    return None if text in ("", "-") else float(text)


if __name__ == "__main__":
    sys.exit(main())
