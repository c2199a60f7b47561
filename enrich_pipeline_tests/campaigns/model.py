"""The engine against an in-memory model: random steps of the whole protocol, compared after each.

A Hypothesis state machine drives the real store and the real engine on a real database; the
providers answer in this process as each step says. The parts: `model_machine` takes the steps,
`model_books`, `model_choices` and `model_nights` are the model, `model_providers` the other side,
`model_said` the words that both use.
"""

import multiprocessing
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from . import model_tables
from .figures import Figures, Scale, Ticker
from .ground import Ground
from .model_machine import TRANSITIONS, Machine
from .model_senders import Halting

EXAMPLES = 2_000
STEPS = 50
OFTEN = 100
"""Every transition occurs at least so often in the full form."""
_SHARDS = 2
_AT_ONCE = 25
"""Examples between two clean-ups of the database."""


def run(scale: Scale, seed: int) -> Figures:
    """The full form in two processes, each with a server of its own."""
    figures = Figures()
    if scale.share is None:
        parts = [_play(12, 25, seed)]
    else:
        examples = scale.of(short=12, full=EXAMPLES) // _SHARDS
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(_SHARDS, mp_context=context) as pool:
            started = [pool.submit(_play, examples, STEPS, seed + n) for n in range(_SHARDS)]
            parts = [one.result() for one in started]
    counts = sum((counted for counted, _ in parts), Counter[str]())
    for name in ("examples", "comparisons", *TRANSITIONS):
        figures.add(name, counts[name])
    figures.note("divergences", sum(len(found) for _, found in parts))
    for number, (_, found) in enumerate(parts):
        figures.blame(f"seed {seed + number}", found)
    if scale.share is not None:
        figures.blame("too seldom", _too_seldom(counts, OFTEN * scale.share))
    return figures


def _too_seldom(counts: Counter[str], wanted: float) -> list[str]:
    return [f"{name}: {counts[name]} times" for name in TRANSITIONS if counts[name] < wanted]


def _play(examples: int, steps: int, seed: int) -> tuple[Counter[str], list[str]]:
    """So many examples on one database; how often what occurred, and what diverged."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    rng = random.Random(seed)
    ticker = Ticker(Figures(), examples, "examples of one process")
    with Ground(model_tables.MEMBERS) as ground, model_tables.opened(ground) as tables, Halting():
        Machine.tables, Machine.counts = tables, counts
        with tables.engine.connect() as keeper:
            Machine.keeper = keeper
            left = examples
            while left > 0 and not found:
                tables.sweep_up()
                found = _some(min(left, _AT_ONCE), steps, rng.randrange(2**32))
                left -= _AT_ONCE
                ticker.tick(examples - max(0, left))
    return counts, found


def _some(examples: int, steps: int, seed: int) -> list[str]:
    own = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        derandomize=False,
        print_blob=False,
    )
    machine = seeded(seed)(Machine)
    try:
        run_state_machine_as_test(machine, settings=own)
    except Exception as error:  # noqa: BLE001 - whatever breaks a step is a finding
        example = "\n".join(getattr(error, "__notes__", ()))
        return [f"{type(error).__name__}: {error}\n{example}"]
    return []
