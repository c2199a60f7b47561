"""Labs: the engine on a real database against simulated providers over HTTP."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import URL

from enrich_pipeline.waterfall import fault_points

from ..support.lab import Bench, Lab

Open = Callable[..., Lab]
AtLabel = Callable[[str, Callable[[], object]], None]


class Died(BaseException):
    """Ends a step as the death of its process would: nothing in between handles it."""


@pytest.fixture
def at_label() -> Iterator[AtLabel]:
    """`at_label("stored", act)`: `act` runs when that point is reached for the first time."""

    def set_hook(label: str, act: Callable[[], object]) -> None:
        def hook(reached: str) -> None:
            if reached == label:
                fault_points.set_hook(None)
                act()

        fault_points.set_hook(hook)

    yield set_hook
    fault_points.set_hook(None)


def die() -> None:
    raise Died


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def open_lab(bench: Bench, database: URL) -> Iterator[Open]:
    """`open_lab(configuration, rates)`: a lab of this test's own."""
    with ExitStack() as stack:

        def open_lab(
            own: Mapping[str, Any] | None = None,
            shares: Mapping[str, float] | None = None,
            environment: Mapping[str, str] | None = None,
        ) -> Lab:
            return stack.enter_context(bench.lab(database, own, shares, environment))

        yield open_lab


@pytest.fixture
def lab(open_lab: Open) -> Lab:
    """The default waterfalls, and everybody is found with everything."""
    return open_lab()
