"""Rate limits: four processes at one provider, told from the simulated provider's own log.

The provider refuses whatever exceeds a rolling second or minute. Shown: no window above its limit,
at least 97 % of what the minutes allow is used, refusals under one in a thousand, fair shares.
"""

import argparse
import signal
import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from sqlalchemy import make_url

from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection
from enrich_pipeline.waterfall.engine import Partition

from ..campaigns.figures import Figures
from ..campaigns.ground import Ground
from ..support.lab import contacts, only, opened
from .processes import drain_at_once

PROVIDER = "prospeo"
BATCH_SIZE = 5
LEAST_USED = 0.97
MOST_REFUSED = 0.001
MOST_UNFAIR = 1.25
"""The busiest run's requests over the least busy one's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--per-second", type=int, default=5)
    parser.add_argument("--per-minute", type=int, default=300)


def run(chosen: argparse.Namespace) -> Figures:
    """A night of as many batches as processes, stopped when the time is over."""
    figures = Figures()
    windows = {1: chosen.per_second, 60: chosen.per_minute}
    calls = chosen.per_minute * (chosen.seconds / 60 + 1)
    people = round(calls * BATCH_SIZE * 1.3)
    own = {
        **only({"work_email": (PROVIDER,)}),
        "refresh": {"batches": chosen.processes, "contacts_per_night": people},
        "providers": {
            PROVIDER: {
                "batch_size": BATCH_SIZE,
                "rate": [
                    {"seconds": s, "limit": limit, "per": "request"} for s, limit in windows.items()
                ],
            }
        },
    }
    limit = f"{PROVIDER}={chosen.per_second}/{chosen.per_minute}"
    with Ground(people) as ground, ground.lab(own, {}, sandbox_options=("--limit", limit)) as lab:
        lab.load(contacts(range(people)))
        lab.plan()
        drain_at_once(lab, chosen.processes, _drain_for, chosen.seconds)
        log = lab.sandbox.requests()[PROVIDER]
        _judge(figures, log["started_at"], windows)
        refused = log["by_outcome"].get("rate_limited", 0) / max(1, log["count"])
        figures.note("refused by the provider", f"{refused:.3%}")
        if refused > MOST_REFUSED:
            figures.violations.append(f"{refused:.3%} of the requests were refused with 429")
        shares = [
            int(n) for (n,) in lab.sql("select count(*) from enrichment.calls group by batch")
        ]
        unfair = max(shares) / min(shares) if len(shares) == chosen.processes else float("inf")
        figures.note("calls per process", ", ".join(map(str, sorted(shares))))
        if unfair > MOST_UNFAIR:
            figures.violations.append(f"one process had {unfair:.2f} times the calls of another")
    return figures


def _judge(figures: Figures, started: Sequence[float], windows: dict[int, int]) -> None:
    times = sorted(started)
    figures.note("requests", len(times))
    for seconds, limit in windows.items():
        most = max(
            bisect_left(times, moment + seconds) - index for index, moment in enumerate(times)
        )
        figures.note(f"most in any {seconds} s", f"{most} of {limit}")
        if most > limit:
            figures.violations.append(f"{most} requests within {seconds} s, {limit} are allowed")
    # Counted from the first full minute on: a fresh window may be used up at once.
    bottleneck = min(limit / seconds for seconds, limit in windows.items())
    longest = max(windows)
    start, end = times[0] + longest, times[-1]
    within = [t for t in times if start <= t < end]
    used = len(within) / ((end - start) * bottleneck)
    figures.note("share of the allowance used", f"{used:.2%}")
    if used < LEAST_USED:
        figures.violations.append(f"only {used:.2%} of the allowance was used")


def _drain_for(
    database: str, environment: dict[str, str], folder: Path, partition: Partition, seconds: int
) -> None:
    """What a process does: one batch, until it is told that the time is over."""
    engine = connection.create_engine(make_url(database), pool_size=10)
    settings = load_settings(environment, folder)
    with opened(engine, settings, f"run-{partition.batch}", sleep=time.sleep) as waterfall:

        def over(_signal: int, _frame: FrameType | None) -> None:
            waterfall.stop()

        signal.signal(signal.SIGALRM, over)
        signal.alarm(seconds)
        waterfall.reuse(partition)
        waterfall.attempt(partition, PROVIDER)
