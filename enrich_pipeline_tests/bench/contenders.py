"""This pipeline against what people would use instead: the same calls, the same answers, one night.

Contenders, in rotated order, each on a fresh copy of the same database: `pipeline` (`enrich
refresh`, through Dagster), `engine` (the same without Dagster), `floor` (asyncio, httpx and COPY,
no safety at all), `naive` (a Dagster asset with pandas, one request after another) and `dlt` (four
parallelized resources, merged). The providers are one process and answer at once, or after the
latency that is asked for; rate limits are off on both sides, and what the providers cost is shown
apart. Times include the start of Python and all imports.
Shown: the pipeline takes at most 1.5 times the floor's time, a tenth of the naive job's, and less
than dlt's.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import vl_convert
from rich.console import Console
from rich.table import Table

from ..campaigns.figures import Figures
from .contending import asking
from .trial import FOUND_BY_PIPELINE, MIX, ROOT, Trial, arena, say
from .usage import CommandFailed

MOST_OVER_FLOOR = 1.5
LEAST_UNDER_NAIVE = 10
DLT_PYTHON = ROOT / ".venv-dlt" / "bin" / "python"
MIB = 1024**2
COUNTED = {
    "work_email": "work_email",
    "phone": "phone",
    "personal_email": "personal_email",
    "profile": asking.PROFILE[0],
}
"""Field -> the column that tells whether it was found."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    command: Sequence[str]
    found: str
    """Counts what it found by field."""


def _script(name: str, table: str, python: Path | str = sys.executable) -> Contender:
    module = f"{__package__}.contending.{name}"
    counts = " union all ".join(
        f"select '{field}', count({column}) from {table}"  # noqa: S608
        for field, column in COUNTED.items()
    )
    return Contender(name.partition("_")[0], (str(python), "-m", module), counts)


CONTENDERS = {
    each.name: each
    for each in (
        Contender(
            "pipeline", (sys.executable, "-m", "enrich_pipeline.cli", "refresh"), FOUND_BY_PIPELINE
        ),
        Contender(
            "engine",
            (sys.executable, "-m", f"{__package__}.contending.engine"),
            FOUND_BY_PIPELINE,
        ),
        _script("floor", "floor_contacts"),
        _script("naive", "naive_contacts"),
        _script("dlt_merge", "dlt_enriched.contacts", DLT_PYTHON),
    )
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contacts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-ms", type=int, default=0, help="of every answer")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument(
        "--naive-contacts",
        type=int,
        help="fewer for the naive job; the comparison with it is per contact then",
    )
    parser.add_argument("--picture", type=Path, help="where the picture goes (SVG)")


def run(chosen: argparse.Namespace) -> Figures:
    """So many rounds of all contenders."""
    figures = Figures()
    names = [name for name in CONTENDERS if name in chosen.only]
    if "dlt" in names and not DLT_PYTHON.exists():
        figures.note("dlt", "NOT RUN: .venv-dlt is missing, `make bench NAME=contenders` makes it")
        names.remove("dlt")
    trials: dict[str, list[Trial]] = {name: [] for name in names}
    with arena(chosen.contacts, chosen.latency_ms) as place:
        for number in range(chosen.rounds):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                fewer = chosen.naive_contacts if name == "naive" else None
                contender = CONTENDERS[name]
                try:
                    trial = place.trial(contender.command, contender.found, fewer)
                except CommandFailed as error:
                    figures.blame(f"{name}, round {number + 1}", [str(error)])
                    continue
                trials[name].append(trial)
                say(
                    f"round {number + 1} of {chosen.rounds}: {name} {trial.used.seconds:.1f} s, "
                    f"{sum(trial.requests.values()):,} requests"
                )
    finished = {name: done for name, done in trials.items() if done}
    figures.note("latency of every answer, ms", chosen.latency_ms)
    if finished:
        _show(figures, finished)
        _compare(figures, finished)
        if chosen.picture is not None:
            chosen.picture.write_text(_picture(finished))
    return figures


# ---- judging --------------------------------------------------------------------------------


def _compare(figures: Figures, trials: Mapping[str, Sequence[Trial]]) -> None:
    """The targets, between whichever contenders were run."""
    each = {name: statistics.median(map(_per_contact, done)) for name, done in trials.items()}
    reference = next(iter(trials))
    if {t.contacts for t in trials.get("naive", ())} - {t.contacts for t in trials[reference]}:
        figures.note("compared", "per contact: the naive job was given fewer")
    for name in ("pipeline", "engine"):
        if {name, "floor"} <= each.keys():
            figures.note(f"{name} over floor", f"{each[name] / each['floor']:.2f}")
    if {"pipeline", "floor"} <= each.keys():
        ratio = each["pipeline"] / each["floor"]
        if ratio > MOST_OVER_FLOOR:
            figures.violations.append(
                f"the pipeline takes {ratio:.2f} times as long as the floor, "
                f"the target is {MOST_OVER_FLOOR}"
            )
    for name, least in (("naive", LEAST_UNDER_NAIVE), ("dlt", 1)):
        if {"pipeline", name} <= each.keys():
            faster = each[name] / each["pipeline"]
            figures.note(f"faster than {name}", f"{faster:.2f} x")
            if faster < least:
                figures.violations.append(
                    f"the pipeline is {faster:.2f} times as fast as {name}, the target is {least}"
                )
    if "floor" in trials:
        _compare_work(figures, trials)


def _compare_work(figures: Figures, trials: Mapping[str, Sequence[Trial]]) -> None:
    """Whether all did the same: values found, and requests, against those of the floor."""
    floor = trials["floor"][0]
    for name, done in trials.items():
        if name == "floor" or done[0].contacts != floor.contacts:
            continue
        for field, wanted in floor.found.items():
            found = [trial.found.get(field, 0) for trial in done]
            if set(found) != {wanted}:
                figures.note(f"{name} found {field}", f"{_range(found, 0)}, the floor {wanted}")
            # The pipeline alone asks whether an answer is about the right person.
            is_stricter = name in ("pipeline", "engine") and min(found) >= 0.99 * wanted
            if max(found) > wanted or (min(found) < wanted and not is_stricter):
                figures.violations.append(
                    f"{name} found {_range(found, 0)} of {field}, the floor {wanted}"
                )
        for provider, sent in floor.requests.items():
            others = [trial.requests[provider] for trial in done]
            if set(others) != {sent}:
                figures.note(
                    f"{name}: requests to {provider}", f"{_range(others, 0)}, the floor {sent}"
                )


def _per_contact(trial: Trial) -> float:
    return trial.used.seconds / trial.contacts


# ---- showing --------------------------------------------------------------------------------

_COLUMNS: Mapping[str, tuple[Callable[[Trial], float], int]] = {
    "wall, s": (lambda t: t.used.seconds, 1),
    "first request after, s": (lambda t: t.began_after, 1),
    "CPU, s": (lambda t: t.used.cpu_seconds, 1),
    "PostgreSQL CPU, s": (lambda t: t.server_cpu, 1),
    "sandbox CPU, s": (lambda t: t.sandbox_cpu, 1),
    "peak memory, MiB": (lambda t: t.used.peak_bytes / MIB, 0),
    "requests": (lambda t: sum(t.requests.values()), 0),
    "paid calls": (lambda t: sum(t.calls.values()), 0),
    "deliveries": (lambda t: t.deliveries, 0),
    "values found": (lambda t: sum(t.found.values()), 0),
}


def _show(figures: Figures, trials: Mapping[str, Sequence[Trial]]) -> None:
    done = next(iter(trials.values()))
    share = statistics.median(t.by_webhook / sum(t.calls.values()) for t in done)
    figures.note("contacts", done[0].contacts)
    figures.note("known to each provider", MIX)
    figures.note("calls answered by webhook", f"{share:.0%}")
    table = Table(
        title=f"One night of {done[0].contacts:,} contacts: median (least..most) of {len(done)}",
        title_justify="left",
    )
    table.add_column("contender")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, rows in trials.items():
        cells = [_range(map(value, rows), digits) for value, digits in _COLUMNS.values()]
        table.add_row(_label(name, rows, done[0].contacts), *cells)
    # Wide enough for every figure, wherever it goes.
    Console(width=max(170, Console().width)).print(table)
    for name, rows in trials.items():
        found = ", ".join(f"{field} {n}" for field, n in sorted(rows[0].found.items()))
        figures.note(f"{name} found", found)


def _label(name: str, done: Sequence[Trial], contacts: int) -> str:
    """The name, and how many contacts it was given where these are others."""
    return name if done[0].contacts == contacts else f"{name} ({done[0].contacts:,})"


def _range(values: Iterable[float], digits: int) -> str:
    listed = sorted(values)
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(listed), listed[0], listed[-1])
    )
    return middle if least == most else f"{middle} ({least}..{most})"


def _picture(trials: Mapping[str, Sequence[Trial]]) -> str:
    """Seconds of the clock by contender: the median as a bar, the range as a line."""
    contacts = next(iter(trials.values()))[0].contacts
    rows = [
        {
            "contender": _label(name, done, contacts),
            "seconds": statistics.median(t.used.seconds for t in done),
            "least": min(t.used.seconds for t in done),
            "most": max(t.used.seconds for t in done),
        }
        for name, done in trials.items()
    ]
    base = alt.Chart(alt.InlineData(rows)).encode(
        y=alt.Y("contender:N", title=None, sort=[str(row["contender"]) for row in rows])
    )
    bars = base.mark_bar(height=14).encode(x=alt.X("seconds:Q", title="seconds for the night"))
    ranges = base.mark_rule(strokeWidth=2).encode(x="least:Q", x2="most:Q")
    chart = (bars + ranges).properties(width=640, height=30 * len(rows))
    return str(vl_convert.vegalite_to_svg(chart.to_json()))
