"""Nights that were really played, and the page that tells of them."""

from collections.abc import Iterator

import pytest

from enrich_pipeline.reports.morning import page
from enrich_pipeline.store.publish import publish

from ...support.lab import Bench, Lab


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("morning")) as bench:
        yield bench


def rendered(lab: Lab) -> str:
    """The page of today's night, published first, as it is of a run's end."""
    policy = lab.settings.policy
    for batch in range(policy.refresh.batches):
        publish(lab.engine, policy, lab.today, batch, lab.now)
    return page.render(page.read(lab.engine, policy, lab.today, lab.now))
