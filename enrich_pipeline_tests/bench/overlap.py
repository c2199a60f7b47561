"""A night at the providers' real limits: does any provider idle while persons wait for it?

The lower bound is what the busiest provider's limits allow for the requests that the night made of
it. Shown: the night takes at most 1.1 times as long; and a picture of how busy each provider was.
"""

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import altair as alt
import vl_convert
from sqlalchemy import make_url

from enrich_pipeline.settings import Settings
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection
from enrich_pipeline.waterfall.engine import Partition

from ..campaigns.figures import Figures
from ..campaigns.ground import Ground
from ..campaigns.schedules import SHARES
from ..store.rows import default_policy
from ..support.lab import chain_of, contacts, opened
from ..support.sandbox import PROVIDERS
from .processes import drain_at_once

MOST = 1.1
"""The night's time over the lower bound."""
_BINS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--persons", type=int, default=3_000)
    parser.add_argument("--batches", type=int, default=4, help="each is a process of its own")
    parser.add_argument("--batch-size", type=int, default=5, help="persons per request")
    parser.add_argument("--latency-ms", type=int, default=400)
    parser.add_argument("--one-after-the-other", action="store_true", help="without working ahead")
    parser.add_argument("--picture", type=Path, help="where the picture goes (SVG)")


def run(chosen: argparse.Namespace) -> Figures:
    """One night of all batches at once, through the waterfalls that are shipped."""
    figures = Figures()
    shipped = default_policy()
    own = {
        "refresh": {"batches": chosen.batches, "contacts_per_night": chosen.persons},
        "budget": {"night_usd": 1_000_000, "person_usd": 1_000},
        "fields": {f.value: {"waterfall": list(shipped.waterfall(f))} for f in shipped.fields},
        "providers": {
            name: {
                "batch_size": chosen.batch_size,
                "await_seconds": shipped.providers[name].await_seconds,
                "poll_seconds": shipped.providers[name].poll_seconds,
                "rate": [w.model_dump(mode="json") for w in shipped.providers[name].rate],
            }
            for name in PROVIDERS
        },
    }
    with Ground(chosen.persons) as ground, ground.lab(own, SHARES) as lab:
        lab.sandbox.latency(chosen.latency_ms)
        lab.load(contacts(range(chosen.persons), personal_email_consent="true"))
        lab.plan()
        started = time.time()
        drain_at_once(lab, chosen.batches, _drain, not chosen.one_after_the_other)
        took = time.time() - started
        times = {
            name: sorted(log["started_at"])
            for name, log in lab.sandbox.requests().items()
            if name in PROVIDERS
        }
    bounds = {name: _bound(lab.settings, name, len(times[name])) for name in PROVIDERS}
    slowest = max(bounds, key=lambda name: bounds[name])
    for name in PROVIDERS:
        figures.note(f"{name}: requests, least seconds", f"{len(times[name])}, {bounds[name]:.0f}")
    figures.note("lower bound, s", f"{bounds[slowest]:.1f} ({slowest})")
    figures.note("all of them one after the other, s", f"{sum(bounds.values()):.1f}")
    figures.note("the night took, s", round(took, 1))
    ratio = took / bounds[slowest]
    figures.note("over the bound", f"{ratio:.2f}")
    if ratio > MOST:
        figures.violations.append(f"the night took {ratio:.2f} times its lower bound")
    if chosen.picture is not None:
        chosen.picture.write_text(_picture(lab.settings, times, took))
    return figures


def _bound(settings: Settings, provider: str, requests: int) -> float:
    """Seconds that the windows leave no choice about, after one full window at the beginning."""
    return max(
        (
            max(0, requests - window.limit) * window.seconds / window.limit
            for window in settings.policy.providers[provider].rate
        ),
        default=0.0,
    )


def _drain(
    database: str, environment: dict[str, str], folder: Path, partition: Partition, ahead: bool
) -> None:
    """What the run of one batch does."""
    engine = connection.create_engine(make_url(database), pool_size=10)
    settings = load_settings(environment, folder)
    chain = chain_of(settings)
    with opened(engine, settings, f"run-{partition.batch}", sleep=time.sleep) as waterfall:
        waterfall.reuse(partition)
        for place, provider in enumerate(chain, start=1):
            waterfall.attempt(partition, provider, later=chain[place:] if ahead else ())


def _picture(settings: Settings, times: Mapping[str, Sequence[float]], took: float) -> str:
    """Share of each provider's allowance that was used, over the time of the night."""
    began = min(moments[0] for moments in times.values() if moments)
    width = took / _BINS
    rows = []
    for name, moments in times.items():
        windows = settings.policy.providers[name].rate
        allowed = min(w.limit / w.seconds for w in windows) * width if windows else 1
        used = Counter(min(_BINS - 1, int((moment - began) / width)) for moment in moments)
        rows += [
            {"provider": name, "second": n * width, "until": (n + 1) * width, "used": share}
            for n in range(_BINS)
            if (share := min(1.0, used[n] / allowed)) > 0
        ]
    chart = (
        alt.Chart(alt.InlineData(rows))
        .mark_rect()
        .encode(
            x=alt.X("second:Q", title="seconds into the night"),
            x2="until:Q",
            y=alt.Y("provider:N", title=None, sort=list(PROVIDERS)),
            color=alt.Color(
                "used:Q", title="allowance used", scale=alt.Scale(scheme="blues", domain=[0, 1])
            ),
        )
        .properties(width=640, height=180)
    )
    return str(vl_convert.vegalite_to_svg(chart.to_json()))
