"""Campaign `fuzz`: mutated replies, deliveries, contact files and receiver requests.

The work is done by processes of its own, whose largest memory is part of the figures.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from ..conformance.cases import CASES
from ..support.sandbox import PROVIDERS
from ..webhooks import described
from .figures import Figures, Scale, Ticker
from .fuzz_loading import rows
from .fuzz_night import night
from .fuzz_reading import Tally, deliveries, replies, subjects
from .ground import Ground

MAX_MEMORY_BYTES = 256 * 1024**2
CHUNK = 2_000
"""Inputs per task: short enough for progress to be seen, long enough to keep processes busy."""
ROWS = 5_000
"""Rows per contact file."""
PEOPLE = 700


def run(scale: Scale, seed: int) -> Figures:
    figures = Figures()
    providers = [case.cls.name for case in CASES if case.cls.name in PROVIDERS]
    delivering = [name for name in providers if any(s.deliveries for s in subjects(name))]
    tasks: list[tuple[str, Callable[..., Tally], tuple[object, ...]]] = []
    per_adapter = scale.of(short=1_500, full=1_000_000)
    for first in range(0, per_adapter, CHUNK):
        for name in providers:
            count = min(CHUNK, per_adapter - first)
            tasks.append((f"replies {name}", replies, (name, seed, first, count)))
    per_receiver = scale.of(short=2_000, full=200_000) // len(delivering)
    for first in range(0, per_receiver, CHUNK):
        for name in delivering:
            count = min(CHUNK, per_receiver - first)
            tasks.append((f"deliveries {name}", deliveries, (name, seed, first, count)))
    with Ground(people=PEOPLE) as ground:
        _run_all(figures, tasks, processes=2)
        with ground.lab({}, {}) as lab:
            database = lab.database.render_as_string(hide_password=False)
            in_all = scale.of(short=600, full=100_000)
            _run_all(
                figures,
                [
                    ("rows", rows, (database, ground.home, seed, first, min(ROWS, in_all - first)))
                    for first in range(0, in_all, ROWS)
                ],
                processes=1,
            )
        night(
            ground,
            seed,
            scale.of(short=16, full=600),
            scale.of(short=3, full=20),
            scale.of(short=200, full=40_000),
            figures,
        )
        with ground.lab({}, {}) as lab:
            made, broken = described.explore(
                str(lab.settings.webhook_public_url), seed, scale.of(short=20, full=2_000)
            )
            figures.add("requests to the receiver", made)
            figures.blame("receiver", broken)
    return figures


def _run_all(
    figures: Figures,
    tasks: Sequence[tuple[str, Callable[..., Tally], tuple[object, ...]]],
    processes: int,
) -> None:
    ticker = Ticker(figures, len(tasks), "tasks")
    total = Tally()
    context = multiprocessing.get_context("forkserver")
    seconds: dict[str, float] = {}
    with ProcessPoolExecutor(processes, context) as pool:
        futures = {pool.submit(_timed, task, *parameters): what for what, task, parameters in tasks}
        for done, future in enumerate(as_completed(futures), 1):
            tally, taken = future.result()
            what = futures[future]
            seconds[what] = seconds.get(what, 0.0) + taken
            figures.add(what, tally.inputs)
            total.add(tally)
            figures.blame("fuzz", tally.violations)
            ticker.tick(done)
    for what, taken in seconds.items():
        figures.note(f"{what} per second and core", round(int(figures.values[what]) / taken))
    figures.add("uncaught exceptions", total.exceptions)
    figures.add("negative or absurd costs", total.negative_costs)
    figures.add("lines or rows with two verdicts", total.doubled_verdicts)
    figures.at_most("most memory of a process, MB", round(total.memory_bytes / 1024**2, 1))
    if total.memory_bytes > MAX_MEMORY_BYTES:
        figures.blame("fuzz", [f"memory: {total.memory_bytes} bytes"])


def _timed(task: Callable[..., Tally], *parameters: object) -> tuple[Tally, float]:
    started = time.process_time()
    tally = task(*parameters)
    return tally, time.process_time() - started
