"""Records that make a whole call fail: found by halving, at the price of few further calls.

Every provider, calls of every size up to its documented maximum (100 at most), none to five
poisoned records in each. One schedule is one batch of a plan, cut to the size it needs.
"""

import random
from collections import Counter
from math import ceil, log2

from enrich_pipeline.domain.batching import call_sizes
from enrich_pipeline.waterfall.engine import Partition

from ..sandbox import people
from ..support.lab import Lab, contacts, only
from ..support.sandbox import PROVIDERS
from . import checks
from .figures import Figures, Scale, Ticker
from .ground import Ground

_MAXIMA = {"prospeo": 50, "agntdata": 100, "pronto": 100, "lance": 100, "apollo": 10}
_MOST_POISON = 5
_LARGEST_SHORT = 12
_LARGEST_WORLD = 100
"""A plan has at most so many batches."""


def run(scale: Scale, seed: int) -> Figures:
    """In the full form every size of every provider with none to five poisoned records."""
    rng = random.Random(seed)
    figures = Figures()
    rounds: list[tuple[str, list[tuple[int, int]]]] = []
    for provider in PROVIDERS:
        every = [
            (size, poison)
            for size in range(1, _MAXIMA[provider] + 1)
            for poison in range(min(size, _MOST_POISON) + 1)
            if scale.share is not None or size <= _LARGEST_SHORT
        ]
        drawn = rng.sample(every, scale.of(short=3, full=len(every)))
        rounds += [
            (provider, drawn[start : start + _LARGEST_WORLD])
            for start in range(0, len(drawn), _LARGEST_WORLD)
        ]
    total = sum(len(drawn) for _, drawn in rounds)
    ticker = Ticker(figures, total, "batches")
    done = 0
    with Ground(max(sum(b for b, _ in drawn) for _, drawn in rounds)) as ground:
        for provider, drawn in rounds:
            own = {
                "refresh": {"batches": len(drawn)},
                "providers": {provider: {"await_seconds": 30}},
                **only({"work_email": [provider]}),
            }
            with ground.lab(own, {}) as lab:
                numbers = _plan(lab, [b for b, _ in drawn])
                for batch, (size, poison) in enumerate(drawn):
                    where = f"{provider}, {size} records, {poison} poisoned, batch {batch}"
                    chosen = rng.sample(numbers[batch], poison)
                    figures.blame(where, _play(lab, provider, batch, size, chosen, figures))
                    done += 1
                    ticker.tick(done)
                figures.blame(provider, _in_the_end(lab, provider))
    return figures


def _plan(lab: Lab, sizes: list[int]) -> dict[int, list[int]]:
    """Loads everybody, plans, and cuts the plan into batches of these sizes: batch -> numbers."""
    lab.load(contacts(range(sum(sizes))))
    lab.plan()
    numbers: dict[int, list[int]] = {}
    first = 0
    for batch, size in enumerate(sizes):
        numbers[batch] = list(range(first, first + size))
        lab.sql(
            "update enrichment.plan_rows set batch = :batch where contact_id = any(:ids)",
            batch=batch,
            ids=[f"c{n:04d}" for n in numbers[batch]],
        )
        first += size
    return numbers


def _play(
    lab: Lab, provider: str, batch: int, size: int, poisoned: list[int], figures: Figures
) -> list[str]:
    lab.sandbox.clear_faults()
    if poisoned:
        marks = [m for n in poisoned for m in (people.email(n), people.last(n), people.lance(n))]
        lab.sandbox.faults({"provider": provider, "kind": "poison", "match": {"values": marks}})
    before = lab.sent()[provider]
    with lab.waterfall() as waterfall:
        waterfall.reuse(Partition(lab.today, batch))
        waterfall.attempt(Partition(lab.today, batch), provider)
    sent = lab.sent()[provider] - before
    fewest = len(_sizes(lab, provider, size))
    allowed = fewest + len(poisoned) * 2 * ceil(log2(size))
    figures.add("batches")
    figures.add("records", size)
    figures.add("poisoned records", len(poisoned))
    figures.add("calls", sent)
    figures.add("calls beyond the fewest", sent - fewest)
    found = [f"{sent} calls, {allowed} allowed"] if sent > allowed else []
    outcomes: dict[str, Counter[str]] = {}
    for contact_id, outcome in lab.sql(
        "select r.contact_id, a.outcome from enrichment.plan_rows as r "
        "left join enrichment.attempts as a using (person_id, field) where r.batch = :b "
        "and a.outcome is distinct from 'error'",
        b=batch,
    ):
        outcomes.setdefault(contact_id, Counter())[outcome] += 1
    bad = {f"c{n:04d}" for n in poisoned}
    for contact_id, counted in sorted(outcomes.items()):
        wanted = Counter({"invalid_input" if contact_id in bad else "found": 1})
        if counted != wanted:
            found.append(f"{contact_id} ended as {dict(counted)}, not {dict(wanted)}")
    if len(outcomes) != size:
        found.append(f"{len(outcomes)} of {size} persons were asked for")
    return found


def _sizes(lab: Lab, provider: str, size: int) -> tuple[int, ...]:
    bounds = lab.settings.providers[provider].limits
    return call_sizes(size, bounds.minimum, bounds.maximum, single=bounds.single)


def _in_the_end(lab: Lab, provider: str) -> list[str]:
    """Nothing is unexplained, no provider's rule was broken, and nobody is asked for again."""
    lab.sandbox.clear_faults()
    sent = lab.sent()[provider]
    lab.plan()
    lab.drain()
    again = lab.sent()[provider] - sent
    books = lab.account(provider)
    unsure = {k: books[k] for k in ("held", "in_doubt", "written_off") if books.get(k)}
    return [
        *checks.all_of(lab.engine, lab.sandbox),
        *checks.open_work(lab.engine),
        *checks.broken_rules(lab.sandbox),
        *([f"{again} calls were made again"] if again else []),
        *([f"left in the books: {unsure}"] if unsure else []),
    ]
