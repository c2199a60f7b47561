"""Are the other campaigns any good? Each bug of a list is put into a copy of the package, and the
short forms of the campaigns must notice it.

A copy, never a hook: what is sold has no trace of this. In the end whoever noticed something is run
on a copy without a bug, to know that it was the bug that was noticed.
"""

import functools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .figures import BROKEN, Figures, Scale, Ticker
from .mutant import Mutant, copy_sources, plant
from .mutants_books import BOOKS
from .mutants_sending import SENDING

MUTANTS = (*SENDING, *BOOKS)
_QUICK = ("intent not committed", "sent again while in doubt")
"""The two of the short form."""
_AT_ONCE = 2
_LONGEST_SECONDS = 900.0
"""A campaign that comes to no end has not noticed anything: the machine may be slow."""
_TO_STOP_SECONDS = 60.0
_CANNOT_RUN = 2
_SEED = 1
"""Of every short form: the one that the suite runs too."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Which campaign noticed, how soon, and what it said."""

    campaign: str
    seconds: float
    words: str

    def __str__(self) -> str:
        return f"{self.campaign}, {self.seconds:.0f} s"


def run(scale: Scale, seed: int) -> Figures:
    """All of them in the full form; two in the short one. The seed draws those of a share."""
    figures = Figures()
    chosen = _chosen(scale, seed)
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        sources = Path(folder)
        copy_sources(sources)
        campaigns: set[str] = set()
        ticker = Ticker(figures, len(chosen), "mutants")
        hunts = pool.map(functools.partial(_hunt, sources), chosen)
        for done, (mutant, noticed) in enumerate(zip(chosen, hunts, strict=True), 1):
            figures.note(mutant.name, str(noticed) if noticed else "survived")
            if noticed is None:
                where = ", ".join(mutant.noticed_by)
                figures.blame(mutant.name, [f"survived {where}. {mutant.bug}"])
            else:
                campaigns.add(noticed.campaign)
                print(f"{mutant.name}: {noticed}: {noticed.words}", file=sys.stderr, flush=True)
            ticker.tick(done)
        if scale.share is not None:
            _look_for_false_alarms(sources, sorted(campaigns), pool, figures)
    figures.note("mutants", len(chosen))
    return figures


def _look_for_false_alarms(
    sources: Path, campaigns: Sequence[str], pool: Executor, figures: Figures
) -> None:
    """Runs who noticed something on the package as it is: there is nothing to notice there."""
    alarms = pool.map(functools.partial(_alarm, sources, None), campaigns)
    for name, alarm in zip(campaigns, alarms, strict=True):
        figures.note(f"{name}, without a bug", "nothing noticed" if alarm is None else str(alarm))
        if alarm is not None:
            figures.blame(name, [f"notices a bug where none was put: {alarm.words}"])


def _chosen(scale: Scale, seed: int) -> Sequence[Mutant]:
    if scale.share is None:
        return [m for m in MUTANTS if m.name in _QUICK]
    every = max(1, round(1 / scale.share))
    return MUTANTS[seed % every :: every]


def _hunt(sources: Path, mutant: Mutant) -> Noticed | None:
    """Runs the campaigns that should notice, one by one, until one does."""
    alarms = (_alarm(sources, mutant, campaign) for campaign in mutant.noticed_by)
    return next((alarm for alarm in alarms if alarm is not None), None)


def _alarm(sources: Path, mutant: Mutant | None, campaign: str) -> Noticed | None:
    """What the short form of a campaign says first about the package with that bug, if anything."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        plant(mutant, sources, Path(folder))
        return _first_complaint(Path(folder), campaign)


def _first_complaint(folder: Path, campaign: str) -> Noticed | None:
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "enrich_pipeline_tests.campaigns", campaign, "--seed", str(_SEED)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(_LONGEST_SECONDS, process.terminate)
    timer.start()
    words = ""
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            words = line.removeprefix(BROKEN).strip() or words
            if line.startswith(BROKEN):
                # Nothing more needs to be known; it stops its servers by itself.
                process.terminate()
                last_resort = threading.Timer(_TO_STOP_SECONDS, process.kill)
                last_resort.start()
                process.communicate()
                last_resort.cancel()
                break
    timer.cancel()
    seconds = time.monotonic() - started
    if process.returncode in (0, _CANNOT_RUN) or seconds >= _LONGEST_SECONDS:
        return None
    return Noticed(campaign, seconds, words)
