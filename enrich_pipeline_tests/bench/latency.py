"""A night with providers that think before they answer: is that hidden behind concurrency?

The engine with publishing, a process for each batch, no rate limits. However fast a pipeline is,
the requests of a provider take their number x latency / the calls that may be under way there.
Shown: the night takes at most 1.1 times as long as that takes at all providers, one after the
other. Start of Python, planning and publishing count. Polls count as requests but are not bound by
the concurrency of calls, so that a night with many of them may take less.
"""

import argparse

from ..campaigns.figures import Figures
from ..support.sandbox import PROVIDERS
from .trial import CONCURRENCY, ENGINE, FOUND_BY_PIPELINE, arena, say

MOST = 1.1
"""The night's time over what the latency alone takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contacts", type=int, default=4_000)
    parser.add_argument("--latency-ms", type=int, default=400)


def run(chosen: argparse.Namespace) -> Figures:
    """One night."""
    figures = Figures()
    with arena(chosen.contacts, chosen.latency_ms) as place:
        say(f"a night of {chosen.contacts:,} contacts")
        trial = place.trial(ENGINE, FOUND_BY_PIPELINE)
    least = {
        name: trial.requests[name] * chosen.latency_ms / 1000 / CONCURRENCY for name in PROVIDERS
    }
    for name in PROVIDERS:
        asked = f"{trial.requests[name]:,}, {CONCURRENCY}, {least[name]:.1f}"
        figures.note(f"{name}: requests, at once, least seconds", asked)
    figures.note("latency one after the other, s", round(sum(least.values()), 1))
    figures.note("latency of the busiest provider, s", round(max(least.values()), 1))
    figures.note("the night took, s", round(trial.used.seconds, 1))
    ratio = trial.used.seconds / sum(least.values())
    figures.note("over the latency", f"{ratio:.2f}")
    if ratio > MOST:
        figures.violations.append(f"the night took {ratio:.2f} times its latency, not {MOST}")
    return figures
