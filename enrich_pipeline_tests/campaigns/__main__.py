"""`python -m enrich_pipeline_tests.campaigns crash --scale full --seed 7`: runs one campaign.

Prints its figures. Where something is broken it prints the seed, the commit and every violation,
and exits with 1.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from importlib import import_module

from rich.console import Console
from rich.table import Table

from .figures import CannotRun, Figures, Scale

CAMPAIGNS = (
    "scenes",
    "crash",
    "race",
    "dbcrash",
    "netfault",
    "poison",
    "fuzz",
    "webhooks",
    "diskfull",
    "dagster",
    "celery",
    "deploy",
    "model",
    "mutants",
)
"""Each is a module of this package with `run(scale: Scale, seed: int) -> Figures`."""

_LISTED = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="campaigns", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CAMPAIGNS)
    parser.add_argument("--scale", type=Scale.parse, default="short", help="short, full or 0.1")
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if chosen.seed is None else chosen.seed
    _forget_own_settings()
    # Told to end, it still stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    print(f"campaign {chosen.name}, scale {chosen.scale}, seed {seed}", file=sys.stderr, flush=True)
    try:
        figures: Figures = import_module(f"{__package__}.{chosen.name}").run(chosen.scale, seed)
    except CannotRun as reason:
        print(f"NOT RUN  campaign {chosen.name}: {reason}", file=sys.stderr)
        return 2
    figures.note("seconds", round(time.monotonic() - started, 1))
    _show(chosen.name, chosen.scale, figures)
    if not figures.violations:
        return 0
    print(f"\nFAILED  campaign {chosen.name}  seed {seed}  commit {_commit()}")
    for violation in figures.violations[:_LISTED]:
        print(f"  {violation}")
    if len(figures.violations) > _LISTED:
        print(f"  and {len(figures.violations) - _LISTED} more")
    return 1


def _forget_own_settings() -> None:
    """Keeps the settings of the developer's shell, keys above all, out of the campaign."""
    for name in list(os.environ):
        if name.startswith(("ENRICH_", "DAGSTER_", "PG")):
            del os.environ[name]
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def _show(name: str, scale: Scale, figures: Figures) -> None:
    table = Table(title=f"{name} ({scale})", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for figure, value in figures.values.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(figure, shown)
    table.add_row("violations", str(len(figures.violations)))
    Console().print(table)


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        # Nothing else here needs git.
        return "unknown"
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
