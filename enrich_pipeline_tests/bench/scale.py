"""The engine with publishing, at ten thousand to a million contacts: does a contact cost the same?

A process for each batch, all five providers, which answer at once. Shown: a contact of the largest
night costs at most 1.15 times the processor time of one of the smallest, PostgreSQL's included; a
million take at most 600 seconds and 1 GiB. With --profile one batch of the first size is taken
apart instead of judged. Loading is not counted, but takes its time; the databases lie in the folder
for temporary files.
"""

import argparse

from rich.console import Console
from rich.table import Table

from ..campaigns.figures import Figures
from . import profiles
from .trial import ENGINE, FOUND_BY_PIPELINE, Trial, arena, say

MOST_PER_CONTACT = 1.15
LARGEST, MOST_SECONDS = 1_000_000, 600
MOST_BYTES = 1024**3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contacts", type=int, nargs="+", default=[10_000, 100_000, LARGEST])
    parser.add_argument(
        "--profile", action="store_true", help="where one batch's time goes, in Python and SQL"
    )


def run(chosen: argparse.Namespace) -> Figures:
    """One night of every size, each on a server of its own."""
    figures = Figures()
    if chosen.profile:
        with arena(chosen.contacts[0]) as place:
            profiles.show(place)
        return figures
    trials = []
    for contacts in chosen.contacts:
        with arena(contacts) as place:
            say(f"a night of {contacts:,} contacts")
            trials.append(place.trial(ENGINE, FOUND_BY_PIPELINE))
        say(f"{contacts:,} contacts took {trials[-1].used.seconds:.1f} s")
    _show(trials)
    _judge(figures, trials)
    return figures


def _judge(figures: Figures, trials: list[Trial]) -> None:
    first = _cost(trials[0])
    for trial in trials:
        name = f"{trial.contacts:,} contacts"
        ratio = _cost(trial) / first
        figures.note(f"{name}: seconds", round(trial.used.seconds, 1))
        figures.note(f"{name}: cost of one, relative", f"{ratio:.2f}")
        figures.note(f"{name}: values found", sum(trial.found.values()))
        if ratio > MOST_PER_CONTACT:
            figures.violations.append(
                f"a contact of {trial.contacts:,} costs {ratio:.2f} times one of "
                f"{trials[0].contacts:,}, the target is {MOST_PER_CONTACT}"
            )
        if trial.used.peak_bytes > MOST_BYTES:
            gib = trial.used.peak_bytes / MOST_BYTES
            figures.violations.append(f"{name} took {gib:.2f} GiB of memory, the target is 1")
        if trial.contacts >= LARGEST and trial.used.seconds > MOST_SECONDS:
            figures.violations.append(
                f"{name} took {trial.used.seconds:.0f} s, the target is {MOST_SECONDS}"
            )


def _cost(trial: Trial) -> float:
    """Processor seconds of a contact: the pipeline's and PostgreSQL's."""
    return (trial.used.cpu_seconds + trial.server_cpu) / trial.contacts


def _show(trials: list[Trial]) -> None:
    table = Table(title="The engine with publishing, by size of the night", title_justify="left")
    for column in (
        *("contacts", "wall, s", "contacts/s", "CPU, s", "PostgreSQL CPU, s", "sandbox CPU, s"),
        *("peak memory, MiB", "CPU ms/contact", "KiB/contact"),
        *("requests", "paid calls"),
    ):
        table.add_column(column, justify="right")
    for trial in trials:
        table.add_row(
            f"{trial.contacts:,}",
            f"{trial.used.seconds:,.1f}",
            f"{trial.contacts / trial.used.seconds:,.0f}",
            f"{trial.used.cpu_seconds:,.1f}",
            f"{trial.server_cpu:,.1f}",
            f"{trial.sandbox_cpu:,.1f}",
            f"{trial.used.peak_bytes / 1024**2:,.0f}",
            f"{_cost(trial) * 1000:.2f}",
            f"{trial.grown_bytes / trial.contacts / 1024:.1f}",
            f"{sum(trial.requests.values()):,}",
            f"{sum(trial.calls.values()):,}",
        )
    Console(width=max(150, Console().width)).print(table)
