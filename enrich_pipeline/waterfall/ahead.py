"""Work ahead: while one stage is at its turn, those that follow ask for whom it has done with.

So a provider does not idle while persons wait for it. What any of them answers late is collected
all the while: left to a stage that is busy sending, it would hold up those who follow. Where the
night's budget is short, it is spent on whoever comes through first, not provider by provider.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from enrich_pipeline.waterfall.stage import Stage

Ahead = tuple[Stage, frozenset[str]]
"""A stage that works ahead, and the providers that come before it and are not done yet."""


def queue_of(provider: str, later: Sequence[str]) -> list[tuple[str, frozenset[str]]]:
    """Each of the `later` providers once, with those that come before it from `provider` on.

    `provider` itself does not work ahead of its own next turn.
    """
    queue: dict[str, frozenset[str]] = {}
    earlier = frozenset([provider])
    for name in later:
        if name != provider and name not in queue:
            queue[name] = earlier - {name}
        earlier |= {name}
    return list(queue.items())


@contextmanager
def working_ahead(current: Stage, later: Sequence[Ahead]) -> Iterator[None]:
    """Until the block ends all stages collect, and the later ones work ahead.

    Then they finish the calls under way. The first failure of any of them is raised where the block
    ends without one of its own.
    """
    over = Event()
    collecting = [current, *(stage for stage, _ in later)]
    with ThreadPoolExecutor(len(later) + len(collecting), thread_name_prefix="ahead") as pool:
        try:
            working = [
                *(pool.submit(stage.work_ahead, earlier, over) for stage, earlier in later),
                *(pool.submit(stage.keep_collecting, over) for stage in collecting),
            ]
            yield
        finally:
            over.set()
    for each in working:
        each.result()
